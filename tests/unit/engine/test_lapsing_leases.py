"""Whatever happens to a heartbeat, work whose lease has run out is told to end."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from agentflow.domain.error import ServersUnreachable
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


class _FrozenDatabase:
    """Takes a statement and answers never, as a server does that hangs."""

    def __init__(self) -> None:
        self.is_closed = threading.Event()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self.is_closed.wait()
        raise ServersUnreachable("it was closed")
        yield

    def close(self) -> None:
        """Let who waits for an answer go."""
        self.is_closed.set()


class _Silence:
    """Hears no stop."""

    def next_stops(self, timeout_seconds: float) -> None:
        """Wait for the whole time."""
        time.sleep(timeout_seconds)


@pytest.mark.parametrize("kind", [_BrokenDatabase, _FrozenDatabase])
def test_a_lease_that_lapsed_ends_its_work_whatever_becomes_of_the_heartbeats(kind: type[Any]) -> None:
    settings = SimpleNamespace(lease_seconds=1.0, heartbeat_seconds=0.1)
    channel = SimpleNamespace(listen_for_stops=_Silence)
    context: Any = SimpleNamespace(settings=settings, side_channel=channel)
    keeper = LeaseKeeper(context, kind())
    deadline = time.monotonic() + 5

    with keeper.keeping(AttemptId(uuid4()), ClaimToken(uuid4()), time.monotonic() - 2) as lifeline:
        while lifeline.stop_reason is None and time.monotonic() < deadline:
            time.sleep(0.02)
        keeper.close()

    assert lifeline.stop_reason is StopReason.LEASE_LOST
