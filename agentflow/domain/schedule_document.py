"""The written form of a schedule: a cron line, an interval or a time, and how it is kept.

Owns reading it, with every fault at once. Plan, vars and budget are not judged here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice, pairwise
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError, available_timezones

from agentflow.domain.cron import instant_of, read_cron
from agentflow.domain.duration import format_duration, parse_duration
from agentflow.domain.fault import Fault
from agentflow.domain.plan import NAME_PATTERN, NAME_WORDS
from agentflow.domain.schedule import (
    MOST_CAUGHT_UP,
    CronTiming,
    IntervalTiming,
    OnceTiming,
    Overlap,
    Timing,
    due_times,
)
from agentflow.domain.wording import did_you_mean, shorten

LEAST_INTERVAL_SECONDS = 1.0
LEAST_CATCH_UP_SECONDS = 10.0
"""Another beat takes over within five seconds, and then looks once a second."""
MOST_QUEUED = 1000
_LOOKED_AHEAD = 64
_CODE = "bad_schedule"


@dataclass(frozen=True, slots=True)
class WrittenSchedule:
    """What a person says about when a schedule is due and how it is kept; durations as in a plan."""

    name: str
    cron: str | None = None
    every: str | None = None
    at: str | None = None
    start: str | None = None
    time_zone: str = "UTC"
    jitter: str = "0s"
    overlap: str = Overlap.SKIP
    queue_depth: int = 1
    catch_up: str = "10m"


@dataclass(frozen=True, slots=True)
class ReadSchedule:
    """The same in values."""

    name: str
    timing: Timing
    time_zone: str
    jitter_seconds: float
    overlap: Overlap
    max_queued: int
    catch_up_seconds: float


@dataclass(slots=True)
class _Reader:
    written: WrittenSchedule
    now: datetime
    faults: list[Fault] = field(default_factory=list)

    def fault(self, name: str, message: str) -> None:
        self.faults.append(Fault(_CODE, message, (name,)))

    def seconds(self, name: str, text: str) -> float | None:
        try:
            return parse_duration(text)
        except ValueError as error:
            self.fault(name, str(error))
            return None


def read_schedule(written: WrittenSchedule, now: datetime) -> tuple[ReadSchedule | None, tuple[Fault, ...]]:
    """Return what is written, or None and every fault of it; ``now`` is the installation's."""
    reader = _Reader(written, now)
    if not re.match(NAME_PATTERN, written.name):
        reader.fault("name", f"{shorten(written.name)!r} is no name: {NAME_WORDS}")
    zone = _read_zone(reader)
    timing = _read_timing(reader, zone)
    overlap = _read_overlap(reader)
    jitter, window = reader.seconds("jitter", written.jitter), reader.seconds("catch_up", written.catch_up)
    if timing is not None and jitter is not None and window is not None:
        _check_pace(reader, timing, jitter, window)
    if reader.faults or timing is None or overlap is None or jitter is None or window is None:
        return None, tuple(reader.faults)
    read = ReadSchedule(written.name, timing, written.time_zone, jitter, overlap, written.queue_depth, window)
    return read, ()


def _read_zone(reader: _Reader) -> ZoneInfo | None:
    name = reader.written.time_zone
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):  # OSError: a directory of zones, such as Europe
        near = did_you_mean(name, available_timezones())
        hint = near if near.startswith("did") else "write one such as Europe/Berlin"
        reader.fault("time_zone", f"{shorten(name)!r} is no time zone: {hint}")
        return None


def _read_timing(reader: _Reader, zone: ZoneInfo | None) -> Timing | None:
    written = reader.written
    given = [name for name in ("cron", "every", "at") if getattr(written, name) is not None]
    if len(given) != 1:
        said = f"not {' and '.join(given)}" if given else "nothing is said"
        reader.fault("timing", f"say when it is due with one of cron, every and at; {said}")
    if written.start is not None and written.every is None:
        reader.fault("start", "start is where an interval begins: give it with every")
    found = [
        _read_cron(reader, zone) if written.cron is not None else None,
        _read_interval(reader, zone) if written.every is not None else None,
        _read_once(reader, zone) if written.at is not None else None,
    ]
    return next((timing for timing in found if timing is not None), None)


def _read_cron(reader: _Reader, zone: ZoneInfo | None) -> Timing | None:
    cron, faults = read_cron(reader.written.cron or "")
    for message in faults:
        reader.fault("cron", message)
    return None if cron is None or zone is None else CronTiming(cron, zone)


def _read_interval(reader: _Reader, zone: ZoneInfo | None) -> Timing | None:
    seconds = reader.seconds("every", reader.written.every or "")
    if seconds is not None and seconds < LEAST_INTERVAL_SECONDS:
        reader.fault("every", f"an interval is at least {format_duration(LEAST_INTERVAL_SECONDS)}")
        seconds = None
    start = reader.written.start
    anchor = reader.now.replace(microsecond=0) if start is None else _read_moment(reader, "start", start, zone)
    return None if seconds is None or anchor is None else IntervalTiming(seconds, anchor)


def _read_once(reader: _Reader, zone: ZoneInfo | None) -> Timing | None:
    at = _read_moment(reader, "at", reader.written.at or "", zone)
    if at is not None and at <= reader.now:
        reader.fault("at", f"{at.isoformat()} is past: it is {reader.now.astimezone(UTC).isoformat()} by the database")
        return None
    return None if at is None else OnceTiming(at)


def read_moment(text: str, zone: ZoneInfo | None) -> datetime | None:
    """Return the instant of a time as people write it, local in ``zone`` unless it has an offset; None for no time."""
    try:
        moment = datetime.fromisoformat(text.strip())
        if moment.tzinfo is None:
            return None if zone is None else instant_of(moment, zone)
        return moment.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _read_moment(reader: _Reader, name: str, text: str, zone: ZoneInfo | None) -> datetime | None:
    moment = read_moment(text, zone)
    if moment is None and read_moment(text, ZoneInfo("UTC")) is None:
        reader.fault(name, f"{shorten(text)!r} is no time: write one such as 2026-12-01T06:00, or with +01:00 behind")
    return moment


def _read_overlap(reader: _Reader) -> Overlap | None:
    depth = reader.written.queue_depth
    if not 1 <= depth <= MOST_QUEUED:
        reader.fault("queue_depth", f"as many firings as 1 to {MOST_QUEUED} can queue, not {depth}")
    try:
        return Overlap(reader.written.overlap)
    except ValueError:
        known = did_you_mean(reader.written.overlap, [each.value for each in Overlap])
        reader.fault("overlap", f"{shorten(reader.written.overlap)!r} is no way to overlap: {known}")
        return None


def _check_pace(reader: _Reader, timing: Timing, jitter: float, window: float) -> None:
    if window < LEAST_CATCH_UP_SECONDS:
        reader.fault(
            "catch_up",
            f"the catch-up window is at least {format_duration(LEAST_CATCH_UP_SECONDS)}: a beat that takes over from "
            "another needs up to 5s",
        )
    gap = _shortest_gap(islice(due_times(timing, reader.now), _LOOKED_AHEAD))
    if gap is None:
        return
    if jitter >= gap:
        reader.fault("jitter", f"the jitter must be shorter than what lies between due times, {format_duration(gap)}")
    if window / gap > MOST_CAUGHT_UP:
        reader.fault(
            "catch_up",
            f"a catch-up window holds at most {MOST_CAUGHT_UP} due times, here {format_duration(MOST_CAUGHT_UP * gap)}",
        )


def _shortest_gap(dues: Iterable[datetime]) -> float | None:
    return min(((later - earlier).total_seconds() for earlier, later in pairwise(dues)), default=None)
