"""Steps: moving, advancing, and the delivery notes of doorbells. How a run's graph is written stands in graphs.py."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row

from agentflow.domain.blame import SUSPECTED_FROM
from agentflow.domain.ids import RunId, StepId, StepKey
from agentflow.domain.reason import Reason
from agentflow.domain.state import StepState
from agentflow.domain.transition import UNTAKEN, NeedsMet
from agentflow.storage.database import statement, to_json

ASKS = 32
"""How many steps of a rate key are sent at a time, in each queue, to ask for a ticket."""
LINE_PATIENCE_SECONDS = 10.0
"""How long a doorbell that nobody answers keeps a place of its concurrency key from the next in line."""
SUSPECT_PATIENCE_SECONDS = 60.0
"""How long a suspect that nobody takes keeps those of other queues waiting: longer than a worker needs to come back."""


@dataclass(frozen=True, slots=True)
class Successor:
    """A step as it stands once its needs were counted.

    Of a foreach that has made its items: how many, and how many of them had their turn.
    """

    id: StepId
    key: StepKey
    position: int
    state: StepState
    when_rule: str
    is_sink: bool
    needs_open: int
    needs: NeedsMet
    children: int | None = None
    released: int | None = None

    @property
    def has_turns(self) -> bool:
        """Whether it is a foreach with items that still wait for their turn."""
        return self.children is not None and (self.released or 0) < self.children


@dataclass(frozen=True, slots=True)
class MovedStep:
    """A step that a bulk statement moved."""

    id: StepId
    key: StepKey
    is_sink: bool
    old_state: StepState | None = None


@dataclass(frozen=True, slots=True)
class DueStep:
    """A step that was noted as sent and whose doorbell must now be sent; ``retries`` is what monitors show of it."""

    id: StepId
    run_id: RunId
    key: StepKey
    retries: int
    plan_fingerprint: str


def advance(
    tx: Connection, final_steps: Sequence[StepId], state: StepState, *, is_untaken: bool = False
) -> list[Successor]:
    """Tell the successors of steps that all ended in ``state``; returns them as they now stand, by position.

    ``is_untaken``: they were skipped because their way was not taken.
    """
    parameters = {
        "step_ids": list(final_steps),
        "succeeded": int(state is StepState.SUCCEEDED),
        "untaken": int(is_untaken),
        "failed": int(state is StepState.FAILED),
        "skipped": int(state is StepState.SKIPPED),
        "cancelled": int(state is StepState.CANCELLED),
    }
    rows = tx.execute(statement("advance_successors"), parameters).all()
    return sorted((successor(row) for row in rows), key=lambda successor: successor.position)


def successor(row: Row[Any]) -> Successor:
    """Read a row of one of the statements that return steps with their counters."""
    return Successor(
        id=StepId(row.id),
        key=StepKey(row.key),
        position=row.position,
        state=StepState(row.state),
        when_rule=row.when_rule,
        is_sink=row.is_sink,
        needs_open=row.needs_open,
        needs=NeedsMet(
            succeeded=row.needs_succeeded,
            failed=row.needs_failed,
            skipped=row.needs_skipped,
            cancelled=row.needs_cancelled,
            untaken=row.needs_untaken,
        ),
        children=row.children,
        released=row.released,
    )


def move(
    tx: Connection,
    step_ids: Iterable[StepId],
    old_states: Iterable[StepState],
    new_state: StepState,
    reason: Reason | None = None,
) -> list[MovedStep]:
    """Move those of the steps that are still in one of the old states."""
    parameters = {
        "step_ids": list(step_ids),
        "old_states": [state.value for state in old_states],
        "new_state": new_state,
        "reason": to_json(reason.as_json()) if reason else None,
    }
    rows = tx.execute(statement("move_steps"), parameters).all()
    return [MovedStep(StepId(row.id), StepKey(row.key), row.is_sink) for row in rows]


def end_waiting(tx: Connection, run_id: RunId, new_state: StepState, reason: Reason) -> list[MovedStep]:
    """End every step of a run that neither runs nor is final."""
    parameters = {"run_id": run_id, "new_state": new_state, "reason": to_json(reason.as_json())}
    rows = tx.execute(statement("end_waiting_steps"), parameters).all()
    return [MovedStep(StepId(row.id), StepKey(row.key), row.is_sink, StepState(row.old_state)) for row in rows]


def find_suspect(tx: Connection) -> StepId | None:
    """Find the suspect whose turn it is, None while another one runs or is on its way (see domain/blame.py)."""
    parameters = {"suspected_from": SUSPECTED_FROM, "patience_seconds": SUSPECT_PATIENCE_SECONDS}
    found = tx.execute(statement("find_suspect"), parameters).scalar_one_or_none()
    return None if found is None else StepId(found)


def stamp_due(tx: Connection, queue: str, room: int, suspect: StepId | None = None) -> list[DueStep]:
    """Note up to ``room`` due steps of a queue as sent, fairly by run; the caller sends them in this order.

    Of the suspects only ``suspect`` goes.
    """
    parameters = {"queue": queue, "room": room, "asks": ASKS, "suspect": suspect, "suspected_from": SUSPECTED_FROM}
    return _due_steps(tx.execute(statement("stamp_due"), parameters).all())


def stamp_line(tx: Connection, queues: Sequence[str], room: int, suspect: StepId | None = None) -> list[DueStep]:
    """Note up to ``room`` steps as sent whose turn it is in the lines before concurrency keys, over all ``queues``."""
    parameters = {
        "queues": list(queues),
        "room": room,
        "patience_seconds": LINE_PATIENCE_SECONDS,
        "suspect": suspect,
        "suspected_from": SUSPECTED_FROM,
    }
    return _due_steps(tx.execute(statement("stamp_line"), parameters).all())


def _due_steps(rows: Iterable[Row[Any]]) -> list[DueStep]:
    ordered = sorted(rows, key=lambda row: (row.turn, row.place, row.not_before))
    return [
        DueStep(StepId(row.id), RunId(row.run_id), StepKey(row.key), row.retries, row.plan_fingerprint)
        for row in ordered
    ]


def stamp_sent(tx: Connection, step_ids: Sequence[StepId]) -> set[StepId]:
    """Note doorbells as sent; returns the steps that had none on their way."""
    if not step_ids:
        return set()
    return {StepId(row) for row in tx.execute(statement("stamp_sent"), {"step_ids": list(step_ids)}).scalars()}


def forget_sent(tx: Connection, step_ids: Sequence[StepId]) -> None:
    """Take back the delivery notes of doorbells that could not be sent."""
    tx.execute(statement("forget_sent"), {"step_ids": list(step_ids)})


def forget_lost_doorbells(tx: Connection, queue: str, waiting: int, patience_seconds: float) -> int:
    """Take back the notes of doorbells that must be lost; returns how many."""
    parameters = {"queue": queue, "waiting": waiting, "patience_seconds": patience_seconds}
    return len(tx.execute(statement("forget_lost_doorbells"), parameters).all())


def count_outstanding(tx: Connection) -> dict[str, int]:
    """Count, by queue, the steps whose doorbell is noted as on its way."""
    return {row.queue: row.outstanding for row in tx.execute(statement("count_outstanding"))}


@dataclass(frozen=True, slots=True)
class Due:
    """What waits for a doorbell: whether anything is due, whether any line stands, and when the next falls due."""

    is_due: bool
    has_line: bool
    seconds: float | None


def find_due(tx: Connection) -> Due:
    """Read what waits for a doorbell; ``seconds`` until the next step falls due, None when there is none."""
    row = tx.execute(statement("next_due")).one()
    return Due(row.is_due, row.has_line, None if row.seconds is None else float(row.seconds))


@dataclass(frozen=True, slots=True)
class StepCounts:
    """A run's steps by state: all of them, and those that are the plan's own and no foreach's.

    Of the latter also those that were skipped because their condition could not be evaluated, and those that succeeded
    although items of them failed.
    """

    every: Mapping[StepState, int]
    own: Mapping[StepState, int]
    broken_conditions: int
    partial: int


def count_by_state(tx: Connection, run_id: RunId) -> StepCounts:
    """Count a run's steps by state."""
    rows = tx.execute(statement("count_steps"), {"run_id": run_id}).all()
    return StepCounts(
        every={StepState(row.state): row.steps for row in rows},
        own={StepState(row.state): row.own for row in rows},
        broken_conditions=sum(row.broken_conditions for row in rows),
        partial=sum(row.partial for row in rows),
    )


@dataclass(frozen=True, slots=True)
class StepFacts:
    """What templates and conditions may know of a step: its row, its last attempt and the names of its artifacts.

    ``choice`` is the label that a decision chose.
    """

    key: StepKey
    action: str
    state: StepState
    exit_code: int | None
    result: Any
    attempt: int
    artifacts: tuple[str, ...]
    choice: str | None = None
    items: int | None = None
    """How many items a foreach has, once it has them, and how many of them failed."""
    items_failed: int = 0


def read_facts(tx: Connection, run_id: RunId, keys: Iterable[StepKey]) -> dict[StepKey, StepFacts]:
    """Read the facts of some steps of a run."""
    wanted = list(keys)
    if not wanted:
        return {}
    rows = tx.execute(statement("read_step_facts"), {"run_id": run_id, "keys": wanted}).all()
    return {
        StepKey(row.key): StepFacts(
            StepKey(row.key),
            row.action,
            StepState(row.state),
            row.exit_code,
            row.result,
            row.attempts,
            tuple(row.artifacts),
            row.choice,
            row.children,
            row.items_failed,
        )
        for row in rows
    }


@dataclass(frozen=True, slots=True)
class LockedStep:
    """A step as seen under its lock."""

    id: StepId
    key: StepKey
    state: StepState
    is_sink: bool
    event_sequence: int
    event_head: bytes | None


def lock(tx: Connection, step_id: StepId) -> LockedStep | None:
    """Lock a step whose run the caller holds; None for an unknown one."""
    row = tx.execute(statement("lock_step"), {"step_id": step_id}).one_or_none()
    if row is None:
        return None
    head = None if row.event_head is None else bytes(row.event_head)
    return LockedStep(step_id, StepKey(row.key), StepState(row.state), row.is_sink, row.event_sequence, head)


def find_run_of(tx: Connection, step_id: StepId) -> RunId | None:
    """Return the run that a step belongs to."""
    run_id = tx.execute(statement("find_run_of_step"), {"step_id": step_id}).scalar_one_or_none()
    return RunId(run_id) if run_id else None


@dataclass(frozen=True, slots=True)
class StandingStep:
    """How a step stands, and why."""

    state: StepState
    reason_code: str | None


def read_states(tx: Connection, run_id: RunId) -> dict[StepKey, StandingStep]:
    """Read how all steps of a run stand."""
    rows = tx.execute(statement("read_step_states"), {"run_id": run_id})
    return {StepKey(row.key): StandingStep(StepState(row.state), row.reason_code) for row in rows}


def reopen(
    tx: Connection, step_ids: Sequence[StepId], anew: Sequence[StepId] = (), awaiting: Sequence[StepId] = ()
) -> list[Successor]:
    """Take final or held steps up again as pending, with their needs counted anew; returns them by position.

    Of them, the foreachs ``anew`` find out again what they go through; ``awaiting`` are what awaits its item's turn.
    """
    parameters = {
        "step_ids": list(step_ids),
        "untaken_codes": sorted(UNTAKEN),
        "anew_ids": list(anew),
        "awaiting_ids": list(awaiting),
    }
    rows = tx.execute(statement("reopen_steps"), parameters).all()
    return sorted((successor(row) for row in rows), key=lambda step: step.position)


def open_fork(tx: Connection, run_id: RunId) -> list[Successor]:
    """Let all steps of a fork that were not taken over wait for their needs, as pending; returns them by position."""
    rows = tx.execute(statement("open_fork_steps"), {"run_id": run_id}).all()
    return sorted((successor(row) for row in rows), key=lambda step: step.position)
