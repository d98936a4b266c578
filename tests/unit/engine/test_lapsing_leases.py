"""Whatever happens to a heartbeat, work whose lease has run out is told to end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

from agentflow.domain.ids import AttemptId, ClaimToken
from agentflow.engine.heartbeat import LeaseKeeper
from agentflow.executors.base import StopReason


class _BrokenDatabase:
    """Refuses every statement, without being away."""

    @contextmanager
    def transaction(self) -> Iterator[None]:
        raise ValueError("the table is not what it was")
        yield

    def close(self) -> None:
        """Nothing to close."""


class _Silence:
    """Hears no stop."""

    def next_stops(self, timeout_seconds: float) -> None:
        """Wait for the whole time."""
        time.sleep(timeout_seconds)


def test_a_lease_that_lapsed_ends_its_work_although_each_heartbeat_fails_unexpectedly() -> None:
    settings = SimpleNamespace(lease_seconds=1.0, heartbeat_seconds=0.1)
    channel = SimpleNamespace(listen_for_stops=_Silence)
    context: Any = SimpleNamespace(settings=settings, side_channel=channel)
    database: Any = _BrokenDatabase()
    keeper = LeaseKeeper(context, database)
    deadline = time.monotonic() + 5

    with keeper.keeping(AttemptId(uuid4()), ClaimToken(uuid4()), time.monotonic() - 2) as lifeline:
        while lifeline.stop_reason is None and time.monotonic() < deadline:
            time.sleep(0.02)
        keeper.close()

    assert lifeline.stop_reason is StopReason.LEASE_LOST
