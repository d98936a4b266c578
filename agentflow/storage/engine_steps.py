"""The steps that the engine decides itself: ending them without an attempt, holding them, and what is due of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from agentflow.domain.ids import StepId, StepKey
from agentflow.domain.reason import Reason
from agentflow.domain.state import StepState
from agentflow.domain.transition import UNTAKEN
from agentflow.storage.database import statement, to_json
from agentflow.storage.steps import MovedStep


def end_begun(
    tx: Connection,
    step_ids: Iterable[StepId],
    new_state: StepState,
    reason: Reason | None = None,
    *,
    choice: str | None = None,
    result: Any = None,
) -> list[MovedStep]:
    """End those of the steps that still wait, as the engine decided."""
    parameters = {
        "step_ids": list(step_ids),
        "new_state": new_state,
        "reason": to_json(reason.as_json()) if reason else None,
        "choice": choice,
        "result": None if result is None else to_json(result),
    }
    rows = tx.execute(statement("end_begun_steps"), parameters).all()
    return [MovedStep(StepId(row.id), StepKey(row.key), row.is_sink) for row in rows]


@dataclass(frozen=True, slots=True)
class HeldStep:
    """A step that is to wait for something outside, and why; the dispatcher looks at it at ``due_at``."""

    id: StepId
    reason: Reason
    due_at: datetime | None

    def as_json(self) -> dict[str, Any]:
        """Write it as the statement reads it."""
        due_at = None if self.due_at is None else self.due_at.isoformat()
        return {"id": str(self.id), "reason": self.reason.as_json(), "due_at": due_at}


def hold(tx: Connection, waiting: Sequence[HeldStep]) -> None:
    """Let pending steps of a run wait that the caller holds alone."""
    if not waiting:
        return
    held = tx.execute(statement("hold_steps"), {"held": to_json([step.as_json() for step in waiting])}).all()
    if len(held) != len(waiting):
        raise LookupError(f"{len(waiting) - len(held)} of {len(waiting)} steps are not pending")


def tell_held(tx: Connection, step_id: StepId, reason: Reason, due_at: datetime | None) -> None:
    """Say anew why a locked step is held, and when the dispatcher looks at it."""
    parameters = {"step_id": step_id, "reason": to_json(reason.as_json()), "due_at": due_at}
    tx.execute(statement("tell_held"), parameters).one()


def end_held(tx: Connection, step_id: StepId, new_state: StepState, reason: Reason | None, result: Any = None) -> None:
    """End a locked step that the engine held."""
    parameters = {
        "step_id": step_id,
        "new_state": new_state,
        "reason": to_json(reason.as_json()) if reason else None,
        "result": None if result is None else to_json(result),
    }
    tx.execute(statement("end_held_step"), parameters).one()


def recount_needs(tx: Connection, step_ids: Iterable[StepId]) -> None:
    """Count the needs of steps anew that still wait; some of the needs were taken up again."""
    parameters = {"step_ids": list(step_ids), "untaken_codes": sorted(UNTAKEN)}
    tx.execute(statement("recount_needs"), parameters)


def find_due_held(tx: Connection, limit: int) -> list[StepId]:
    """Find steps that are held until a time that has come."""
    return [StepId(row.id) for row in tx.execute(statement("find_due_held"), {"limit": limit})]


def seconds_to_held(tx: Connection) -> float | None:
    """Read in how many seconds the next held step is to be looked at, by this transaction's clock."""
    seconds = tx.execute(statement("next_held")).scalar_one_or_none()
    return None if seconds is None else float(seconds)
