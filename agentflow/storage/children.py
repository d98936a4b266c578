"""The steps that a foreach makes: how many, whose turn it is, and how they stand."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection

from agentflow.domain.ids import RunId, StepId, StepKey
from agentflow.storage.database import statement
from agentflow.storage.steps import Successor, successor


def next_position(tx: Connection, run_id: RunId) -> int:
    """Read the first position behind all steps of a run that the caller holds alone."""
    return int(tx.execute(statement("next_position"), {"run_id": run_id}).scalar_one())


def note_expanded(tx: Connection, foreach: StepId, items: int, *, released: int) -> Successor:
    """Note that a foreach has made its items and waits for them; returns it as it stands now."""
    parameters = {"step_id": foreach, "items": items, "released": released}
    return successor(tx.execute(statement("note_expanded"), parameters).one())


def read_fresh(tx: Connection, run_id: RunId, step_ids: Sequence[StepId]) -> list[Successor]:
    """Read steps that were just made, by position."""
    parameters = {"run_id": run_id, "step_ids": list(step_ids)}
    return [successor(row) for row in tx.execute(statement("read_fresh_steps"), parameters)]


def release(tx: Connection, run_id: RunId, foreach: StepId, key: StepKey, max_parallel: int) -> list[Successor]:
    """Give further items of a foreach their turn; returns the steps that waited for it, by position."""
    parameters = {"run_id": run_id, "step_id": foreach, "key": key, "max_parallel": max_parallel}
    rows = tx.execute(statement("release_items"), parameters).all()
    return sorted((successor(row) for row in rows), key=lambda step: step.position)
