"""What persons change of a run on the way: steps that they end, timeouts and priorities, and what that depends on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection

from agentflow.domain.beginning import Ends
from agentflow.domain.ids import RunId, StepId, StepKey
from agentflow.storage.database import statement, to_json


@dataclass(frozen=True, slots=True)
class Turns:
    """How many items a foreach made."""

    children: int


def read_turns(tx: Connection, run_id: RunId, keys: Iterable[StepKey]) -> dict[StepKey, Turns]:
    """Read how far those of the foreachs have come that have made their items."""
    rows = tx.execute(statement("read_turns"), {"run_id": run_id, "keys": list(keys)})
    return {StepKey(row.key): Turns(row.children) for row in rows}


@dataclass(frozen=True, slots=True)
class StepTerms:
    """What a person said of a step over its plan: how long an attempt may take (None: as planned), and its priority."""

    timeout_seconds: float | None
    priority: int


def modify_step(
    tx: Connection, step_id: StepId, *, timeout_seconds: float | None = None, priority: int | None = None
) -> StepTerms:
    """Change what is given of a locked step that neither runs nor is final; returns what stood before."""
    parameters = {"step_id": step_id, "timeout_seconds": timeout_seconds, "priority": priority}
    row = tx.execute(statement("modify_step"), parameters).one()
    return StepTerms(row.timeout_seconds, row.priority)


def modify_run(tx: Connection, run_id: RunId, priority: int) -> int:
    """Set the priority of a locked run; returns what it was before."""
    parameters = {"run_id": run_id, "priority": priority}
    return int(tx.execute(statement("modify_run"), parameters).scalar_one())


def override(tx: Connection, step_id: StepId, ends: Ends) -> None:
    """End a locked step that neither runs nor is final."""
    parameters = {
        "step_id": step_id,
        "new_state": ends.state,
        "reason": to_json(ends.reason.as_json()) if ends.reason else None,
        "choice": ends.choice,
        "result": None if ends.result is None else to_json(ends.result),
    }
    tx.execute(statement("override_step"), parameters).one()
