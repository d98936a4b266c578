"""The steps that a foreach makes: how many, whose turn it is, and how they stand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from agentflow.domain.ids import RunId, StepId, StepKey
from agentflow.domain.state import StepState
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


def count_items(tx: Connection, run_id: RunId, foreach: StepKey) -> int:
    """Count the items that a foreach has made in any round."""
    return int(tx.execute(statement("count_items"), {"run_id": run_id, "foreach": foreach}).scalar_one())


def read_foreachs(tx: Connection, run_id: RunId) -> list[StepKey]:
    """Read the names of a run's foreachs, those inside of others too."""
    return [StepKey(row) for row in tx.execute(statement("read_foreachs"), {"run_id": run_id}).scalars()]


def read_awaiting(tx: Connection, run_id: RunId, keys: Sequence[StepKey]) -> frozenset[StepKey]:
    """Read which of some steps await the turn of their item."""
    if not keys:
        return frozenset()
    rows = tx.execute(statement("read_awaiting_steps"), {"run_id": run_id, "keys": list(keys)}).scalars()
    return frozenset(StepKey(row) for row in rows)


def release(tx: Connection, foreach: StepId, max_parallel: int) -> list[Successor]:
    """Give further items of a locked foreach their turn; returns the steps that waited for it, by position."""
    parameters = {"step_id": foreach, "max_parallel": max_parallel}
    rows = tx.execute(statement("release_items"), parameters).all()
    return sorted((successor(row) for row in rows), key=lambda step: step.position)


def count_turns(tx: Connection, foreachs: Sequence[StepId]) -> list[Successor]:
    """Count anew how many items of foreachs await their turn; returns those that wait for items."""
    return [successor(row) for row in tx.execute(statement("count_turns"), {"step_ids": list(foreachs)})]


@dataclass(frozen=True, slots=True)
class Inner:
    """A step inside of a foreach, or of one of its items, that is not final."""

    id: StepId
    key: StepKey
    state: StepState
    is_open: bool
    """Whether it waits for steps inside of it, and ends as they do."""


def lock_inner(tx: Connection, run_id: RunId, around: StepKey) -> list[Inner]:
    """Lock what is not final inside of a foreach or of an item, in id order; the caller holds the run alone."""
    rows = tx.execute(statement("lock_inner_steps"), {"run_id": run_id, "around": around})
    return [Inner(StepId(row.id), StepKey(row.key), StepState(row.state), row.is_open) for row in rows]
