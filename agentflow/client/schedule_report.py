"""What a caller is told of schedules: how one stands with its next due times, and pages of its firings.

Owns the public form. The rows behind it are storage/schedules.py's.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from agentflow.domain.budget import BudgetKind
from agentflow.domain.schedule import due_times
from agentflow.domain.shortfall import cap_of
from agentflow.engine.replace_schedule import Replaced
from agentflow.storage.schedules import FiringView, Schedule, ScheduleView
from agentflow.storage.view_shapes import moment

SHOWN_DUE_TIMES = 5


@dataclass(frozen=True, slots=True)
class DueTime:
    """A due time to come: the instant, the same in the schedule's zone, and when it fires with its jitter."""

    at: datetime
    local: datetime
    fires_at: datetime

    def as_json(self) -> dict[str, Any]:
        """The due time as it stands under its schedule."""
        return {"at": moment(self.at), "local": self.local.isoformat(), "fires_at": moment(self.fires_at)}


@dataclass(frozen=True, slots=True)
class ScheduleReport:
    """How a schedule stands; ``keeper`` is the beat that keeps the schedules, None while none does.

    ``kept`` is what keeping it did; None of one that was only read or examined.
    """

    view: ScheduleView
    keeper: str | None
    kept: Replaced | None = None

    @property
    def is_new(self) -> bool:
        """False of what was put in the place of one of its name."""
        return self.kept is None or self.kept.is_new

    @property
    def schedule(self) -> Schedule:
        """The schedule."""
        return self.view.schedule

    @property
    def name(self) -> str:
        """Its name."""
        return self.view.schedule.name

    def next(self, count: int = SHOWN_DUE_TIMES) -> list[DueTime]:
        """Return the next due times, as they are while the schedule is not stopped."""
        schedule = self.schedule
        zone, pace = ZoneInfo(schedule.time_zone), schedule.pace
        found = islice(due_times(schedule.timing, schedule.at), count)
        return [DueTime(due, due.astimezone(zone), pace.fire_at(due)) for due in found]

    def as_json(self) -> dict[str, Any]:
        """The schedule as ``schedule show --json`` prints it."""
        schedule, view = self.schedule, self.view
        last = {"due_at": moment(view.last_due_at), "state": view.last_state, "run": _text(view.last_run_id)}
        return {
            "schema": "agentflow.schedule/1",
            "id": str(schedule.id),
            "project": schedule.project,
            "name": schedule.name,
            "timing": {"kind": schedule.timing.kind.value, **schedule.timing.as_json()},
            "time_zone": schedule.time_zone,
            "jitter_seconds": schedule.pace.jitter_seconds,
            "overlap": schedule.overlap.value,
            "queue_depth": schedule.max_queued,
            "catch_up_seconds": schedule.pace.catch_up_seconds,
            "plan": schedule.plan_name,
            "plan_version": schedule.plan_version,
            "vars": dict(schedule.vars),
            "budget": _caps(schedule),
            "directive": schedule.directive,
            "is_enabled": schedule.is_enabled,
            "next": [each.as_json() for each in self.next()],
            "last": last if view.last_due_at is not None else None,
            "waiting": view.waiting,
            "held_since": moment(schedule.held_since),
            "created_by": schedule.created_by,
            "read_at": moment(schedule.at),
            "keeper": self.keeper,
        }

    def kept_json(self) -> dict[str, Any]:
        """What keeping it did, as it stands beside the schedule in ``schedule create --json``."""
        if self.kept is None:
            return {}
        return {"is_new": self.kept.is_new, "changed": list(self.kept.changed), "skipped": self.kept.skipped}


@dataclass(frozen=True, slots=True)
class FiringPage:
    """Some firings of a schedule, the latest due time first."""

    schedule: Schedule
    firings: tuple[FiringView, ...]
    is_last: bool

    @property
    def next_cursor(self) -> str | None:
        """What asks for the firings after these; None at the end."""
        return None if self.is_last or not self.firings else moment(self.firings[-1].due_at)

    def as_json(self) -> dict[str, Any]:
        """The page as ``schedule history --json`` prints it."""
        return {
            "schema": "agentflow.firings/1",
            "project": self.schedule.project,
            "name": self.schedule.name,
            "firings": [each.as_json() for each in self.firings],
            "next_cursor": self.next_cursor,
        }


def _caps(schedule: Schedule) -> dict[str, float] | None:
    if schedule.budget is None:
        return None
    caps = {kind.value: cap_of(schedule.budget, kind) for kind in BudgetKind}
    return {kind: cap for kind, cap in caps.items() if cap is not None}


def _text(value: object) -> str | None:
    return None if value is None else str(value)
