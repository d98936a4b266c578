"""Messages that come twice, late, out of order, broken or for nobody change nothing: no row, no event, no tail."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from agentflow.domain.state import RunState
from agentflow.runtime import Runtime
from tests.factories import noop_step, submitted, wait_for, wait_for_end
from tests.workers import WorkerProcess

Start = Callable[..., WorkerProcess]


def _sealed(**fields: Any) -> dict[str, Any]:
    """A message as kombu would write it, but for the fields that are given."""
    info = {"exchange": "", "routing_key": "control"}
    properties = {"delivery_tag": "t", "delivery_info": info, "body_encoding": "base64", "correlation_id": "c"}
    whole = {"body": "W10=", "headers": {}, "content-type": "application/json", "content-encoding": "utf-8"}
    return {**whole, "properties": properties, **fields}


UNREADABLE = {
    "no JSON": b"\xff not json",
    "deeply nested": b"[" * 100_000,
    "no object": b"[7]",
    "an empty object": b"{}",
    "properties that are none": json.dumps(_sealed(properties=7)).encode(),
    "a body that is no base64": json.dumps(_sealed(body="*")).encode(),
    "headers that are none": json.dumps(_sealed(headers=[1])).encode(),
    "a task that is no name": json.dumps(_sealed(headers={"task": [], "id": "x"})).encode(),
    "no id": json.dumps(_sealed(headers={"task": "agentflow.noop"})).encode(),
    "a task that nobody knows": json.dumps(_sealed(headers={"task": "other.task", "id": "x"})).encode(),
}


def _push(house: Runtime, queue: str, *messages: bytes) -> None:
    house.context.side_channel.client.lpush(f"{house.settings.redis_prefix}{queue}", *messages)


def _completes_another(house: Runtime) -> None:
    assert wait_for_end(house.context, submitted(house.context, [noop_step("after")])) is RunState.COMPLETED


def test_what_is_no_message_is_dropped_and_the_worker_goes_on(house: Runtime, start_worker: Start) -> None:
    worker = start_worker("-c", "1")
    processes = worker.processes()
    _push(house, "control", *UNREADABLE.values())
    channel = f"{house.settings.redis_prefix}/0.celery.pidbox"
    wait_for(lambda: house.context.side_channel.client.publish(channel, b"7") > 0)

    _completes_another(house)
    _push(house, "control", *UNREADABLE.values())  # none of them holds the one slot
    _completes_another(house)

    assert worker.process.poll() is None
    assert set(processes) <= set(worker.processes())
    assert "message_not_readable" in worker.output()


@pytest.mark.parametrize("name", ["no JSON", "no object"])
def test_without_the_guard_such_a_message_ends_the_worker(house: Runtime, start_worker: Start, name: str) -> None:
    """Once this fails, the guard can go."""
    worker = start_worker("-c", "1", app="tests.faults.without_guard")

    _push(house, "control", UNREADABLE[name])

    assert worker.process.wait(30) == 1
    assert "Unrecoverable error" in worker.output()
