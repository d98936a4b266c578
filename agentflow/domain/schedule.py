"""Schedules: what may be said of when a plan runs by itself, and what became of each due time.

Owns the words and, below them, the arithmetic of due times. It reads no clock and opens no database.
"""

from __future__ import annotations

from enum import StrEnum


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
    """What became of a due time."""

    DUE = "due"
    QUEUED = "queued"
    STARTED = "started"
    SKIPPED = "skipped"
    MISSED = "missed"
    REFUSED = "refused"


class FiringCause(StrEnum):
    """Why there is a firing at all."""

    SCHEDULED = "scheduled"
    RUN_NOW = "run_now"
    BACKFILL = "backfill"
