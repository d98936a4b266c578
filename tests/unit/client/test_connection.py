"""The connection of a client: one, however many threads are the first to ask for it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from agentflow import AgentFlow

THREADS = 16


@pytest.fixture
def eager() -> Iterator[None]:
    """Threads that give way to each other as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


@pytest.mark.usefixtures("eager")
def test_threads_that_are_first_together_share_one_connection() -> None:
    together = Barrier(THREADS)
    away = {"database_url": "postgresql://a@127.0.0.1:1/b", "redis_url": "redis://127.0.0.1:1"}
    with AgentFlow(**away, audit_key="k" * 32) as flow:

        def ask(_: int) -> object:
            together.wait(30)
            return flow.context

        with ThreadPoolExecutor(THREADS) as threads:
            found = list(threads.map(ask, range(THREADS)))

    assert len({id(each) for each in found}) == 1
