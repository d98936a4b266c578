"""Jobs: what takes longer than a request may, and how it stands."""

from __future__ import annotations

from enum import StrEnum


class JobKind(StrEnum):
    """What a job does; of a kind one is under way at a time."""

    PRUNE = "prune"
    VERIFY = "verify"


class JobState(StrEnum):
    """How a job stands. ``lost``: its process ended, or gave no sign for too long, before it was done."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    LOST = "lost"
