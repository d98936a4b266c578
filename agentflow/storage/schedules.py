"""Schedules and their firings: keeping, locking, moving, and reading them for surfaces.

Owns the rows and the public shapes. What falls due and what overlaps is the domain's to say.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row

from agentflow.domain.budget import Budget
from agentflow.domain.ids import RunId
from agentflow.domain.overlap import ActiveRun, Move, OpenFiring
from agentflow.domain.reason import Reason
from agentflow.domain.schedule import Caught, FiringCause, FiringState, Overlap, Pace, Timing, timing_of
from agentflow.domain.state import RESTING_RUN_STATES, RunFacts, RunState, shown_state
from agentflow.storage import precondition
from agentflow.storage.database import statement, to_json
from agentflow.storage.view_shapes import moment

NIL = UUID(int=0)
"""Before every id."""


def subject_of(project: str, name: str) -> str:
    """Return how audit events and preconditions name a schedule, also one that is not there (any more)."""
    return f"schedule:{project}/{name}"


@dataclass(frozen=True, slots=True)
class Schedule:
    """A schedule as its row says; ``at`` is the transaction's time."""

    id: UUID
    project: str
    name: str
    timing: Timing
    time_zone: str
    pace: Pace
    overlap: Overlap
    max_queued: int
    plan_name: str
    plan_version: int | None
    vars: Mapping[str, Any]
    budget: Budget | None
    directive: str | None
    is_enabled: bool
    next_at: datetime | None
    created_by: str
    at: datetime
    held_since: datetime | None = None

    @property
    def subject(self) -> str:
        """How audit events name it."""
        return subject_of(self.project, self.name)

    @property
    def actor(self) -> str:
        """Who submits its runs."""
        return f"schedule:{self.name}"


@dataclass(frozen=True, slots=True)
class Work:
    """Which schedules are due, have firings that may start, or some that wait; in how many seconds the next is due."""

    due: tuple[UUID, ...]
    open: tuple[UUID, ...]
    waiting: tuple[UUID, ...]
    seconds: float | None


@dataclass(frozen=True, slots=True)
class ScheduleView:
    """A schedule as it is shown: with its last firing and how many wait."""

    schedule: Schedule
    last_due_at: datetime | None = None
    last_state: str | None = None
    last_run_id: UUID | None = None
    waiting: int = 0


@dataclass(frozen=True, slots=True)
class FiringView:
    """What became of a due time; ``run_state`` is None where there is no run, or none any more."""

    due_at: datetime
    cause: FiringCause
    state: FiringState
    reason: Mapping[str, Any] | None
    noted_at: datetime
    run_id: UUID | None
    run_state: str | None

    def as_json(self) -> dict[str, Any]:
        """The firing as ``schedule history --json`` prints it."""
        return {
            "due_at": moment(self.due_at),
            "cause": self.cause.value,
            "state": self.state.value,
            "reason": None if self.reason is None else dict(self.reason),
            "noted_at": moment(self.noted_at),
            "run": None if self.run_id is None else str(self.run_id),
            "run_state": self.run_state,
        }


def insert(tx: Connection, schedule: Schedule) -> bool:
    """Keep a new schedule; False when there is one of its name."""
    parameters = _kept(schedule) | {name: getattr(schedule, name) for name in ("project", "name", "created_by")}
    return tx.execute(statement("insert_schedule"), parameters).one_or_none() is not None


def replace(tx: Connection, schedule: Schedule) -> None:
    """Put another schedule in the place of a locked one, under its id."""
    tx.execute(statement("replace_schedule"), _kept(schedule)).one()


def _kept(schedule: Schedule) -> dict[str, Any]:
    timing, budget = schedule.timing, schedule.budget
    names = ("id", "time_zone", "max_queued", "plan_name", "plan_version", "directive", "is_enabled", "next_at")
    return {name: getattr(schedule, name) for name in names} | {
        "kind": timing.kind,
        "spec": to_json(timing.as_json()),
        "jitter_seconds": schedule.pace.jitter_seconds,
        "catch_up_seconds": schedule.pace.catch_up_seconds,
        "overlap": schedule.overlap,
        "vars": to_json(dict(schedule.vars)),
        "budget": None if budget is None else to_json(budget.model_dump(exclude_none=True)),
        "fire_at": _fire_at(schedule.pace, schedule.next_at),
    }


def lock(tx: Connection, project: str, name: str) -> Schedule | None:
    """Lock a schedule for a verb; None when there is none of that name."""
    row = tx.execute(statement("lock_schedule"), {"project": project, "name": name}).one_or_none()
    precondition.hold(tx, subject_of(project, name))
    return None if row is None else _schedule(row)


def take(tx: Connection, schedule_id: UUID) -> Schedule | None:
    """Lock a schedule for the service that fires; None when it is gone, or when another process has it."""
    row = tx.execute(statement("take_schedule"), {"id": schedule_id}).one_or_none()
    return None if row is None else _schedule(row)


def find_work(tx: Connection, limit: int, *, after_open: UUID = NIL, after_waiting: UUID = NIL) -> Work:
    """Find what there is to do, at most ``limit`` schedules of a kind; the open and the waiting behind those named."""
    parameters = {"limit": limit, "after_open": after_open, "after_waiting": after_waiting}
    row = tx.execute(statement("find_schedule_work"), parameters).one()
    seconds = None if row.seconds is None else float(row.seconds)
    return Work(tuple(row.due), tuple(row.open), tuple(row.waiting), seconds)


def note_firings(tx: Connection, schedule: Schedule, caught: Caught, late: Reason) -> bool:
    """Note what fell due of a locked schedule, and go on to what is due next; False when another did."""
    missed = [to_json(late.as_json())] * len(caught.missed)
    if caught.until is not None:
        summary = Reason(late.code, {**late.detail, "until": moment(caught.until)})
        missed[-1] = to_json(summary.as_json())
    parameters = {
        "id": schedule.id,
        "old_next_at": schedule.next_at,
        "next_at": caught.next_at,
        "fire_at": _fire_at(schedule.pace, caught.next_at),
        "due_ats": [*caught.missed, *caught.fire],
        "states": [FiringState.MISSED] * len(missed) + [FiringState.DUE] * len(caught.fire),
        "reasons": [*missed, *(None for _ in caught.fire)],
    }
    return bool(tx.execute(statement("note_firings"), parameters).all())


def insert_firing(tx: Connection, schedule: Schedule, due_at: datetime) -> bool:
    """Note a firing that a person asks for; False when there is one of that very time."""
    parameters = {"schedule_id": schedule.id, "due_at": due_at}
    return tx.execute(statement("insert_firing"), parameters).one_or_none() is not None


def queue_backfill(tx: Connection, schedule: Schedule, due_ats: Sequence[datetime]) -> list[datetime]:
    """Queue due times of the past; returns those that have no run yet, which are queued now."""
    parameters = {"schedule_id": schedule.id, "due_ats": list(due_ats)}
    return sorted(tx.execute(statement("queue_backfill"), parameters).scalars())


def find_firings(tx: Connection, schedule_id: UUID, due_ats: Sequence[datetime]) -> set[datetime]:
    """Find which due times have a run, or wait for one."""
    parameters = {"schedule_id": schedule_id, "due_ats": list(due_ats)}
    return set(tx.execute(statement("find_firings"), parameters).scalars())


def read_open_firings(tx: Connection, schedule_id: UUID) -> list[OpenFiring]:
    """Read the firings that have not started yet, those that are being started among them."""
    rows = tx.execute(statement("read_open_firings"), {"schedule_id": schedule_id})
    return [OpenFiring(row.due_at, FiringCause(row.cause), FiringState(row.state)) for row in rows]


def read_active_runs(tx: Connection, schedule_id: UUID) -> list[ActiveRun]:
    """Read the runs that have not ended."""
    rows = tx.execute(statement("read_active_runs"), {"schedule_id": schedule_id})
    return [_active(row) for row in rows]


def move_firings(tx: Connection, schedule_id: UUID, moves: Collection[Move]) -> list[datetime]:
    """Decide about open firings of a locked schedule; returns those that were open."""
    if not moves:
        return []
    parameters = {
        "schedule_id": schedule_id,
        "due_ats": [move.due_at for move in moves],
        "states": [move.state for move in moves],
        "reasons": [to_json(move.reason.as_json()) if move.reason else None for move in moves],
    }
    return list(tx.execute(statement("move_firings"), parameters).scalars())


def note_run(tx: Connection, schedule_id: UUID, due_at: datetime, run_id: RunId) -> bool:
    """Note the run of a firing; False when it is noted already."""
    parameters = {"schedule_id": schedule_id, "due_at": due_at, "run_id": run_id}
    return tx.execute(statement("start_firing"), parameters).one_or_none() is not None


def refuse(tx: Connection, schedule_id: UUID, due_at: datetime, reason: Reason) -> bool:
    """Note that a firing cannot be submitted; False when it has an end already."""
    parameters = {"schedule_id": schedule_id, "due_at": due_at, "reason": to_json(reason.as_json())}
    return tx.execute(statement("refuse_firing"), parameters).one_or_none() is not None


def hold(tx: Connection, schedule_id: UUID) -> bool:
    """Note that a resting run holds a schedule up; False when that is noted already."""
    return tx.execute(statement("hold_schedule"), {"id": schedule_id}).one_or_none() is not None


def free(tx: Connection) -> list[str]:
    """Note which schedules are not held up any more; returns them as project/name."""
    return [f"{row.project}/{row.name}" for row in tx.execute(statement("free_schedules"))]


def enable(tx: Connection, schedule: Schedule, next_at: datetime | None, *, is_enabled: bool) -> bool:
    """Let a locked schedule fire from ``next_at`` on, or stop it; False when it stands so already."""
    fire_at = _fire_at(schedule.pace, next_at)
    parameters = {"id": schedule.id, "is_enabled": is_enabled, "next_at": next_at, "fire_at": fire_at}
    return tx.execute(statement("enable_schedule"), parameters).one_or_none() is not None


def delete(tx: Connection, schedule: Schedule) -> None:
    """Forget a locked schedule with its firings."""
    tx.execute(statement("delete_schedule"), {"id": schedule.id}).one()


def view(tx: Connection, project: str | None = None, name: str | None = None) -> list[ScheduleView]:
    """Read schedules as they are shown, by name."""
    rows = tx.execute(statement("view_schedules"), {"project": project, "name": name})
    return [
        ScheduleView(_schedule(row), row.last_due_at, row.last_state, row.last_run_id, int(row.waiting)) for row in rows
    ]


def view_firings(tx: Connection, schedule_id: UUID, limit: int, before: datetime | None = None) -> list[FiringView]:
    """Read up to ``limit`` firings, the latest due time first, from before ``before`` on."""
    parameters = {"schedule_id": schedule_id, "before": before, "limit": limit}
    return [
        FiringView(
            row.due_at,
            FiringCause(row.cause),
            FiringState(row.state),
            row.reason,
            row.noted_at,
            row.run_id,
            row.run_state,
        )
        for row in tx.execute(statement("view_firings"), parameters)
    ]


def read_keeper(tx: Connection, service: str) -> str | None:
    """Read who keeps the schedules; None when nobody does."""
    holder: str | None = tx.execute(statement("read_keeper"), {"service": service}).scalar_one_or_none()
    return holder


def _schedule(row: Row[Any]) -> Schedule:
    return Schedule(
        id=row.id,
        project=row.project,
        name=row.name,
        timing=timing_of(row.kind, row.spec, row.time_zone),
        time_zone=row.time_zone,
        pace=Pace(row.id, row.jitter_seconds, row.catch_up_seconds),
        overlap=Overlap(row.overlap),
        max_queued=row.max_queued,
        plan_name=row.plan_name,
        plan_version=row.plan_version,
        vars=row.vars,
        budget=None if row.budget is None else Budget(**row.budget),
        directive=row.directive,
        is_enabled=row.is_enabled,
        next_at=row.next_at,
        created_by=row.created_by,
        at=row.at,
        held_since=row.held_since,
    )


def _active(row: Row[Any]) -> ActiveRun:
    facts = RunFacts(
        RunState(row.state),
        is_paused=row.is_paused,
        is_exhausted=row.is_exhausted,
        moving_steps=int(row.is_moving),
        held_steps=int(row.is_holding),
    )
    state = shown_state(facts)
    return ActiveRun(RunId(row.run_id), state.value, FiringCause(row.cause), is_resting=state in RESTING_RUN_STATES)


def _fire_at(pace: Pace, due: datetime | None) -> datetime | None:
    return None if due is None else pace.fire_at(due)
