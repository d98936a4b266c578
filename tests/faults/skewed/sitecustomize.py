"""A host whose clock is wrong by $TEST_CLOCK_SKEW_SECONDS: for every Python that has this folder on its path."""

from __future__ import annotations

import datetime as dt
import os
import time

SKEW_SECONDS = float(os.environ["TEST_CLOCK_SKEW_SECONDS"])
_time, _time_ns, _datetime = time.time, time.time_ns, dt.datetime


class SkewedDatetime(_datetime):
    """A datetime whose now is another."""

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> SkewedDatetime:
        """The wrong time."""
        return cls.fromtimestamp(time.time(), tz)

    @classmethod
    def utcnow(cls) -> SkewedDatetime:
        """The wrong time, without its zone."""
        return cls.fromtimestamp(time.time(), dt.UTC).replace(tzinfo=None)


time.time = lambda: _time() + SKEW_SECONDS
time.time_ns = lambda: _time_ns() + int(SKEW_SECONDS * 1e9)
dt.datetime = SkewedDatetime  # type: ignore[misc]
