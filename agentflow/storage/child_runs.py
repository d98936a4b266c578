"""Child runs: which step started which, what a step waits for, what is above a run and what below it.

Owns the rows' side of it; what becomes of parents and children is decided by the engine.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from agentflow.domain.budget import Budget
from agentflow.domain.child_run import Awaited, ChildRun
from agentflow.domain.ids import RunId, StepId, StepKey
from agentflow.domain.reason import Reason
from agentflow.domain.state import RunState
from agentflow.storage.database import statement


@dataclass(frozen=True, slots=True)
class Parentage:
    """Where a child run comes from, and the plans that the names in its own tree stand for."""

    run_id: RunId
    """The child's id, which was written down before it is made."""
    parent_run: RunId
    parent_step: StepKey
    step_id: StepId
    ancestors: tuple[RunId, ...]
    """All runs above it, the outermost first."""


@dataclass(frozen=True, slots=True)
class WaitingStep:
    """A step that waits for a child run, and what the child is made from; ``child`` is None before it is made."""

    run_id: RunId
    key: StepKey
    awaited: Awaited
    project: str
    directive: str | None
    actor: str
    vars: Mapping[str, Any]
    plan_fingerprint: str
    ancestors: tuple[RunId, ...]
    child_plans: Mapping[str, Any]
    child: ChildRun | None


@dataclass(frozen=True, slots=True)
class Parent:
    """The step that a child run was started by. ``awaited``: what it waits for; ``child``: how the child run stands.

    ``is_paused`` is of the run above.
    """

    run_id: RunId
    step: StepKey
    step_id: StepId
    awaited: Awaited | None
    child: ChildRun
    is_paused: bool

    @property
    def awaits_end(self) -> bool:
        """Whether the step waits for the end that the child run has come to."""
        awaited = self.awaited
        return (
            awaited is not None
            and awaited.run_id == self.child.run_id
            and self.child.is_final
            and self.child.round >= awaited.round
        )


@dataclass(frozen=True, slots=True)
class Forsaken:
    """A child run that nobody waits for any more, and why: the state and the reason of the run above it."""

    run_id: RunId
    parent_run: RunId
    parent_state: RunState
    parent_reason: Reason | None


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A run above another: its caps hold for that too. ``active_seconds_used`` is without its rests."""

    run_id: RunId
    budget: Budget
    active_seconds_used: float


def read_last(tx: Connection, run_id: RunId, keys: Collection[StepKey]) -> dict[StepKey, tuple[int, ChildRun | None]]:
    """Read how many child runs each of some steps started, and the last of them."""
    found: dict[StepKey, tuple[int, ChildRun | None]] = dict.fromkeys(keys, (0, None))
    rows = tx.execute(statement("read_last_children"), {"run_id": run_id, "keys": list(keys)}) if keys else ()
    for row in rows:
        found[StepKey(row.parent_step)] = (row.made, ChildRun(RunId(row.id), RunState(row.state), row.round))
    return found


def read_waiting(tx: Connection, step_id: StepId) -> WaitingStep | None:
    """Read a step that waits for a child run; None when it does not."""
    row = tx.execute(statement("read_waiting_step"), {"step_id": step_id}).one_or_none()
    awaited = Awaited.from_reason(row.reason) if row is not None else None
    if row is None or awaited is None:
        return None
    child = None
    if row.child_state is not None:
        child = ChildRun(awaited.run_id, RunState(row.child_state), row.child_round)
    return WaitingStep(
        run_id=RunId(row.run_id),
        key=StepKey(row.key),
        awaited=awaited,
        project=row.project,
        directive=row.directive,
        actor=row.actor,
        vars=row.vars,
        plan_fingerprint=row.plan_fingerprint,
        ancestors=run_ids(row.ancestors),
        child_plans=row.child_plans or {},
        child=child,
    )


def take_waiting(tx: Connection, step_id: StepId, child_id: RunId) -> bool:
    """Note that a child run is there; False when the step does not wait for it. The caller holds the step's run."""
    parameters = {"step_id": step_id, "child_id": str(child_id)}
    return tx.execute(statement("take_waiting_step"), parameters).one_or_none() is not None


def postpone(tx: Connection, step_id: StepId, seconds: float) -> None:
    """Let a step be looked at later whose child run is due and could not be started."""
    tx.execute(statement("postpone_child"), {"step_id": step_id, "seconds": seconds})


def read_parent(tx: Connection, run_id: RunId) -> Parent | None:
    """Read what started a run; None for one that is no child."""
    row = tx.execute(statement("read_parent"), {"run_id": run_id}).one_or_none()
    if row is None or row.step_id is None:
        return None
    child = ChildRun(run_id, RunState(row.state), row.round)
    return Parent(
        RunId(row.parent_run),
        StepKey(row.parent_step),
        StepId(row.step_id),
        Awaited.from_reason(row.reason),
        child,
        is_paused=row.is_paused,
    )


def find_open(tx: Connection, run_id: RunId) -> list[RunId]:
    """Find the child runs of a run that have not ended."""
    return [RunId(row) for row in tx.execute(statement("find_open_children"), {"run_id": run_id}).scalars()]


def count_open_below(tx: Connection, run_id: RunId) -> int:
    """Count the runs below a run, at any depth, that have not ended."""
    return int(tx.execute(statement("count_open_below"), {"run_id": run_id}).scalar_one())


def find_due(tx: Connection, limit: int) -> list[StepId]:
    """Find steps whose child run is to be started."""
    return [StepId(row) for row in tx.execute(statement("find_due_children"), {"limit": limit}).scalars()]


def find_ended(tx: Connection, limit: int) -> list[RunId]:
    """Find child runs that have ended and that are still waited for."""
    return [RunId(row) for row in tx.execute(statement("find_ended_children"), {"limit": limit}).scalars()]


def find_forsaken(tx: Connection, limit: int, run_id: RunId | None = None) -> list[Forsaken]:
    """Find child runs, of one run or of all, that nobody waits for any more."""
    rows = tx.execute(statement("find_forsaken_children"), {"run_id": run_id, "limit": limit})
    return [
        Forsaken(
            RunId(row.run_id),
            RunId(row.parent_run),
            RunState(row.state),
            Reason.from_json(row.reason) if row.reason else None,
        )
        for row in rows
    ]


def find_unlike(tx: Connection, limit: int) -> list[tuple[RunId, bool]]:
    """Find child runs that do not rest as the run above them does, each with whether it is to be paused."""
    rows = tx.execute(statement("find_unlike_children"), {"limit": limit})
    return [(RunId(row.run_id), bool(row.is_to_pause)) for row in rows]


def read_ancestors(tx: Connection, above: Sequence[RunId]) -> tuple[Ancestor, ...]:
    """Read how the runs above a run stand with their caps."""
    if not above:
        return ()
    rows = tx.execute(statement("read_ancestors"), {"run_ids": list(above)})
    return tuple(
        Ancestor(
            RunId(row.run_id),
            Budget(**{name: getattr(row, name) for name in Budget.model_fields}),
            float(row.active_seconds_used),
        )
        for row in rows
    )


def run_ids(stored: Sequence[str] | None) -> tuple[RunId, ...]:
    """Read the ids of runs as a row lists them."""
    return tuple(RunId(UUID(each)) for each in stored or ())
