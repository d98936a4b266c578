"""What persons change of a run on the way: steps that they end, and what of a foreach that depends on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Connection

from agentflow.domain.beginning import Ends
from agentflow.domain.ids import RunId, StepId, StepKey
from agentflow.storage.database import statement, to_json


@dataclass(frozen=True, slots=True)
class Turns:
    """How many items a foreach made, and how many of them had their turn."""

    children: int
    released: int


def read_turns(tx: Connection, run_id: RunId, keys: Iterable[StepKey]) -> dict[StepKey, Turns]:
    """Read how far those of the foreachs have come that have made their items."""
    rows = tx.execute(statement("read_turns"), {"run_id": run_id, "keys": list(keys)})
    return {StepKey(row.key): Turns(row.children, row.released) for row in rows}


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
