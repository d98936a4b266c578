"""The watchdog's thread goes on whatever it stumbles over."""

from __future__ import annotations

import json
import select
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from agentflow.worker.beside import DispatcherBeside
from agentflow.worker.consumption import Consumption
from agentflow.worker.watchdog import Watchdog

NOBODY_URL = "redis://127.0.0.1:1/0"


class ChangingQueues(dict[str, Any]):
    """What Celery consumes from, while remote control adds to it: the first reading of it fails."""

    was_read = False

    def keys(self) -> Any:
        if not self.was_read:
            self.was_read = True
            raise RuntimeError("dictionary changed size during iteration")
        return super().keys()

    def __iter__(self) -> Any:
        return iter(self.keys())


def _worker(queues: dict[str, Any]) -> Any:
    """The objects of Celery that are looked at, without the worker around them."""
    amqp = SimpleNamespace(queues=SimpleNamespace(consume_from=queues))
    return SimpleNamespace(
        app=SimpleNamespace(amqp=amqp),
        pool=SimpleNamespace(num_processes=1),
        pool_cls=SimpleNamespace,
        consumer=SimpleNamespace(connection=None),
    )


@pytest.fixture
def reader() -> Any:
    """A process that gives back the lines that it is told."""
    program = "for line in open(0): print(line, flush=True)"
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield process
        process.kill()


def test_the_watchdog_goes_on_after_a_look_that_failed(reader: Any) -> None:
    worker = _worker(ChangingQueues(commands=None))
    beside = DispatcherBeside(worker)
    beside._line.attach(reader)
    settings = SimpleNamespace(redis_prefix="", starvation_seconds=2)
    house = SimpleNamespace(settings=settings, servers=SimpleNamespace(redis_url=NOBODY_URL))
    watchdog = Watchdog(worker, house)  # type: ignore[arg-type]

    watchdog.start()
    is_told, _, _ = select.select([reader.stdout], [], [], 20)
    watchdog.stop()
    beside._line.detach()  # else a process forked later finds what has the number of the pipe by then led nowhere

    assert is_told
    told = json.loads(reader.stdout.readline())
    assert (told["queues"], told["pool"]) == (["commands"], "types")


def test_since_when_a_worker_is_connected_begins_anew_with_each_connection() -> None:
    worker = _worker({})
    consumption = Consumption(worker, started_at=0.0)

    assert consumption.since_when_connected() is None
    worker.consumer.connection = object()
    first = consumption.since_when_connected()
    assert first is not None
    assert consumption.since_when_connected() == first
    worker.consumer.connection = object()
    second = consumption.since_when_connected()
    assert second is not None
    assert second > first
    worker.consumer.connection = None
    assert consumption.since_when_connected() is None
