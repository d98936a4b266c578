"""Cron lines: their five fields, and when one is due next in a time zone.

A line with fixed hours goes by the nominal local time: a time that a change of clocks leaves out is due at the first
valid instant after, one that comes twice is due once, the first time. A line for every hour, or for every so many hours
(``*``, ``*/6``), goes by the time that really passes: it is due at every instant whose local time fits. Which times a
line means is cronsim's, in local time without a zone; what changes of clocks do to them is decided here.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo

from cronsim import CronSim, CronSimError

from agentflow.domain.wording import shorten

_FIELDS = (
    ("minute", "0-59, such as 0, */15 or 10,40"),
    ("hour", "0-23, such as 6, */2 or 8-18"),
    ("day of the month", "1-31 or L for the last, such as 1, 15 or */2"),
    ("month", "1-12 or JAN-DEC, such as 1 or MAR-OCT"),
    ("day of the week", "0-7 (0 and 7 are Sunday) or SUN-SAT, such as 1-5 or MON#1"),
)
_NAMES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_HOUR = 1
_HOURS = 24
_MAX_LENGTH = 200
_SECOND, _DAY = timedelta(seconds=1), timedelta(days=1)
_ANY_TIME = datetime(2024, 1, 1, tzinfo=UTC).replace(tzinfo=None)
"""The line that is checked begins here: in a leap year, so that 29 February is found at once."""


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron line that is sound; made by ``read_cron``, or from what was stored."""

    line: str

    def next_after(self, after: datetime, zone: tzinfo) -> datetime | None:
        """Return the first due time after ``after``, in UTC; None when there is none within 50 years."""
        after = after.astimezone(UTC)
        return self._by_clock(after, zone) if self._is_for_every_hour else self._by_nominal_time(after, zone)

    @property
    def _is_for_every_hour(self) -> bool:
        return self.line.split()[_HOUR].startswith("*") or len(CronSim(self.line, _ANY_TIME).hours) == _HOURS

    def _by_nominal_time(self, after: datetime, zone: tzinfo) -> datetime | None:
        for nominal in CronSim(self.line, after.astimezone(zone).replace(tzinfo=None)):
            due = instant_of(nominal, zone)
            if due > after:
                return due
        return None

    def _by_clock(self, after: datetime, zone: tzinfo) -> datetime | None:
        """Look for a local time under the offset of now; where the clocks change before it, go on from there."""
        start, offset = after, _offset(after, zone)
        local = (after + offset).replace(tzinfo=None)
        while (nominal := next(CronSim(self.line, local), None)) is not None:
            due = nominal.replace(tzinfo=UTC) - offset
            change = _first_change(start, due, zone)
            if change is None:
                return due
            start, offset = change, _offset(change, zone)
            local = (change + offset - _SECOND).replace(tzinfo=None)  # the instant of the change counts
        return None


def read_cron(written: str) -> tuple[Cron | None, tuple[str, ...]]:
    """Return the cron line that is written, or None and all that is wrong with it."""
    line = _NAMES.get(written.strip().lower(), " ".join(written.split()).upper())
    fields = line.split()
    if len(fields) != len(_FIELDS) or len(line) > _MAX_LENGTH:
        names = ", ".join(name for name, _ in _FIELDS)
        return None, (f"{shorten(written)!r} is no cron line: it has five fields ({names}), such as '0 6 * * 1-5'",)
    if faults := tuple(fault for number, field in enumerate(fields) if (fault := _fault_of(number, field))):
        return None, faults
    try:
        is_ever_due = next(CronSim(line, _ANY_TIME), None) is not None
    except CronSimError:  # sound field by field, and no such day
        is_ever_due = False
    if not is_ever_due:
        return None, (f"the cron line {line!r} is never due: no month of it has such a day",)
    return Cron(line), ()


def _fault_of(number: int, field: str) -> str | None:
    alone = ["*"] * len(_FIELDS)
    alone[number] = field
    try:
        CronSim(" ".join(alone), _ANY_TIME)
    except (CronSimError, AssertionError, ValueError):
        name, takes = _FIELDS[number]
        return f"{shorten(field)!r} is no {name} of a cron line: write {takes}, or *"
    return None


def instant_of(nominal: datetime, zone: tzinfo) -> datetime:
    """Return the instant in UTC of a local time without zone: the first of two, the first valid one after a gap."""
    early, late = (nominal.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if early <= late:
        return early
    # In a gap the offset before it leads past the change, and the offset after it to before the change.
    return _first_change(late, early, zone) or early


def _offset(instant: datetime, zone: tzinfo) -> timedelta:
    return instant.astimezone(zone).utcoffset() or timedelta()


def _first_change(low: datetime, high: datetime, zone: tzinfo) -> datetime | None:
    """Return the first instant after ``low``, up to ``high``, at which the offset is another; None for none.

    It is looked for day by day, since no zone changes its clocks there and back within one.
    """
    offset = _offset(low, zone)
    while low < high:
        step = min(low + _DAY, high)
        if _offset(step, zone) != offset:
            return _bisected(low, step, zone)
        low = step
    return None


def _bisected(low: datetime, high: datetime, zone: tzinfo) -> datetime:
    offset = _offset(low, zone)
    low = low.replace(microsecond=0)
    seconds = -int((low - high) // _SECOND)  # rounded up: clocks change at whole seconds
    below, above = 0, seconds
    while above - below > 1:
        middle = (below + above) // 2
        if _offset(low + middle * _SECOND, zone) == offset:
            below = middle
        else:
            above = middle
    return low + above * _SECOND
