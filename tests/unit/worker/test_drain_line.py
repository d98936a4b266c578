"""The line over which a worker tells its children to drain is cut once, however many signals come."""

from __future__ import annotations

import os
import threading
from types import SimpleNamespace

import pytest
from celery import Celery

from agentflow import runtime
from agentflow.worker.drain import _Drain


class _Keeper:
    def __init__(self) -> None:
        self.drains = 0
        self.has_drained = threading.Event()

    def drain(self) -> None:
        self.drains += 1
        self.has_drained.set()


@pytest.fixture
def keeper(monkeypatch: pytest.MonkeyPatch) -> _Keeper:
    """Stands for the lease keeper of this process."""
    keeper = _Keeper()
    monkeypatch.setattr(runtime, "current", lambda: SimpleNamespace(lease_keeper=keeper))
    return keeper


def test_a_second_signal_begins_no_second_drain(keeper: _Keeper) -> None:
    line = _Drain(Celery(set_as_current=False), 0.2)
    before = set(threading.enumerate())
    line.begin()
    line.begin()
    for timer in set(threading.enumerate()) - before:
        timer.join(5)

    assert keeper.drains == 1


def test_a_descriptor_that_took_the_place_of_the_line_stays_open(keeper: _Keeper) -> None:
    line = _Drain(Celery(set_as_current=False), 0)
    line._release()
    taken = [os.dup(0) for _ in range(8)]  # one of them has the number that the line had

    line._release()

    for descriptor in taken:
        os.fstat(descriptor)
        os.close(descriptor)
