"""Schedules: what may be said of when a plan runs by itself, and the arithmetic of due times.

Owns the words, what decides the due times, jitter, and which due times are caught up with after nobody kept the
schedules. It reads no clock and opens no database. How cron lines are read is cron.py's, what happens when runs overlap
overlap.py's.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, ClassVar, Protocol
from uuid import UUID
from zoneinfo import ZoneInfo

from agentflow.domain.cron import Cron

MOST_CAUGHT_UP = 1000
"""How many due times a catch-up window may hold."""
MOST_MISSED = 200
"""How many due times before that window are noted one by one; the last note stands for all that follow."""


class ScheduleKind(StrEnum):
    """What decides the due times."""

    CRON = "cron"
    INTERVAL = "interval"
    ONCE = "once"


class Overlap(StrEnum):
    """What happens when a schedule is due and a run of it has not ended; a resting run has not."""

    SKIP = "skip"
    QUEUE = "queue"
    CANCEL_PREVIOUS = "cancel-previous"
    ALLOW = "allow"


class FiringState(StrEnum):
    """What became of a due time. ``starting`` is decided and being submitted; nothing takes that back."""

    DUE = "due"
    QUEUED = "queued"
    STARTING = "starting"
    STARTED = "started"
    SKIPPED = "skipped"
    MISSED = "missed"
    REFUSED = "refused"


class FiringCause(StrEnum):
    """Why there is a firing at all."""

    SCHEDULED = "scheduled"
    RUN_NOW = "run_now"
    BACKFILL = "backfill"


class Timing(Protocol):
    """What decides the due times of a schedule."""

    kind: ClassVar[ScheduleKind]

    def next_after(self, after: datetime) -> datetime | None:
        """Return the first due time after ``after``, in UTC; None when there is none any more."""

    def as_json(self) -> dict[str, Any]:
        """The stored and public form, without the time zone."""


@dataclass(frozen=True, slots=True)
class CronTiming:
    """By a cron line, in a time zone."""

    kind: ClassVar[ScheduleKind] = ScheduleKind.CRON
    cron: Cron
    zone: ZoneInfo

    def next_after(self, after: datetime) -> datetime | None:
        """Return the first due time after ``after``."""
        return self.cron.next_after(after, self.zone)

    def as_json(self) -> dict[str, Any]:
        """The stored form."""
        return {"cron": self.cron.line}


@dataclass(frozen=True, slots=True)
class IntervalTiming:
    """At ``anchor`` and every so many seconds after, whatever clocks say."""

    kind: ClassVar[ScheduleKind] = ScheduleKind.INTERVAL
    seconds: float
    anchor: datetime

    def next_after(self, after: datetime) -> datetime | None:
        """Return the first due time after ``after``; None beyond the year 9999."""
        try:
            anchor, step = self.anchor.astimezone(UTC), timedelta(seconds=self.seconds)  # a local one adds local time
            return anchor + max(0, (after.astimezone(UTC) - anchor) // step + 1) * step
        except OverflowError:
            return None

    def as_json(self) -> dict[str, Any]:
        """The stored form."""
        return {"seconds": self.seconds, "anchor": self.anchor.astimezone(UTC).isoformat()}


@dataclass(frozen=True, slots=True)
class OnceTiming:
    """At one instant."""

    kind: ClassVar[ScheduleKind] = ScheduleKind.ONCE
    at: datetime

    def next_after(self, after: datetime) -> datetime | None:
        """Return the due time, if it is after ``after``."""
        return self.at.astimezone(UTC) if self.at > after else None

    def as_json(self) -> dict[str, Any]:
        """The stored form."""
        return {"at": self.at.astimezone(UTC).isoformat()}


def timing_of(kind: str, spec: Mapping[str, Any], time_zone: str) -> Timing:
    """Return what a schedule's row says. ZoneInfoNotFoundError where this machine does not know its zone."""
    match ScheduleKind(kind):
        case ScheduleKind.CRON:
            return CronTiming(Cron(str(spec["cron"])), ZoneInfo(time_zone))
        case ScheduleKind.INTERVAL:
            return IntervalTiming(float(spec["seconds"]), datetime.fromisoformat(spec["anchor"]))
        case ScheduleKind.ONCE:
            return OnceTiming(datetime.fromisoformat(spec["at"]))


def due_times(timing: Timing, after: datetime, until: datetime | None = None) -> Iterator[datetime]:
    """Yield the due times after ``after``, up to ``until`` where that is given."""
    due = timing.next_after(after)
    while due is not None and (until is None or due <= until):
        yield due
        due = timing.next_after(due)


@dataclass(frozen=True, slots=True)
class Pace:
    """When a schedule's due times fire: with which jitter, and until how much later."""

    schedule_id: UUID
    jitter_seconds: float = 0.0
    catch_up_seconds: float = 0.0

    def fire_at(self, due: datetime) -> datetime:
        """Return when ``due`` fires: the same in every process, 0 to less than the jitter after it."""
        name = f"{self.schedule_id}:{due.astimezone(UTC).isoformat()}"
        share = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8]) / 2**64
        try:
            return due + timedelta(microseconds=int(share * self.jitter_seconds * 1_000_000))
        except OverflowError:  # beyond the year 9999 there is no time
            return due

    def is_late(self, due: datetime, now: datetime) -> bool:
        """Whether it is too late for ``due`` to fire."""
        return now - self.fire_at(due) > timedelta(seconds=self.catch_up_seconds)


@dataclass(frozen=True, slots=True)
class Caught:
    """What fell due: what fires, what is too late for it, and what is due next.

    Where ``until`` is given the last of ``missed`` stands for every due time up to then.
    """

    fire: tuple[datetime, ...]
    missed: tuple[datetime, ...]
    until: datetime | None
    next_at: datetime | None


def catch_up(timing: Timing, pace: Pace, next_at: datetime, now: datetime) -> Caught:
    """Return what fell due from ``next_at`` to ``now``; however long ago that is, little is computed."""
    fire, missed = list[datetime](), list[datetime]()
    until: datetime | None = None
    due: datetime | None = next_at
    while due is not None and pace.fire_at(due) <= now:
        if not pace.is_late(due, now):
            fire.append(due)
        elif len(missed) < MOST_MISSED:
            missed.append(due)
        else:
            until, due = _last_late(timing, pace, due, now)
            continue
        due = timing.next_after(due)
    return Caught(tuple(fire), tuple(missed), until, due)


def _last_late(timing: Timing, pace: Pace, due: datetime, now: datetime) -> tuple[datetime, datetime | None]:
    """Return until when everything is too late, looked for near the window only, and the due time after that."""
    last = max(due, now - timedelta(seconds=pace.catch_up_seconds + pace.jitter_seconds))
    after = timing.next_after(last)
    while after is not None and pace.fire_at(after) <= now and pace.is_late(after, now):
        last, after = after, timing.next_after(after)
    return last, after
