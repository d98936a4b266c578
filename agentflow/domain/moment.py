"""A moment as plans write it: ISO 8601 with its time zone."""

from __future__ import annotations

from datetime import UTC, datetime


def parse_moment(text: str) -> datetime:
    """Read ``2026-11-21T18:00:00+01:00`` or ``2026-11-21T17:00Z``. ValueError, which does not quote it, for others."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError("is no ISO 8601 time") from None
    if moment.tzinfo is None:
        raise ValueError("lacks its time zone: write 2026-11-21T18:00:00+01:00, or Z for UTC")
    try:
        return moment.astimezone(UTC)
    except OverflowError:  # the first or the last hours of all time
        raise ValueError("is no time that can be kept") from None
