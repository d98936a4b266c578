"""Messages that come twice, late, out of order, broken or for nobody change nothing: no row, no event, no tail.

| fault | test |
|---|---|
| every message of a run, chains whole, again and in reverse, while it runs and after its end | `test_copies_of_...` |
| the same after a retry opened a new round | `test_copies_of_...` |
| a message before its step is due again | `test_a_copy_that_comes_before_...` |
| for a run, a step or a task that nobody knows; with arguments that name nothing | `test_messages_for_nobody_...` |
| no message at all | `test_what_is_no_message_...` |
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from agentflow.domain.ids import RunId
from agentflow.domain.state import RunState
from agentflow.engine.retry import retry
from agentflow.engine.verify import verify_run
from agentflow.runtime import Runtime
from tests.factories import (
    attempt_rows,
    fresh_run_id,
    lines_of,
    noop_step,
    shell_step,
    step_rows,
    submitted,
    wait_for,
    wait_for_end,
)
from tests.workers import WorkerProcess

Start = Callable[..., WorkerProcess]


def _sealed(**fields: Any) -> dict[str, Any]:
    """A message as kombu would write it, but for the fields that are given."""
    info = {"exchange": "", "routing_key": "control"}
    properties = {"delivery_tag": "t", "delivery_info": info, "body_encoding": "base64", "correlation_id": "c"}
    whole = {"body": "W10=", "headers": {}, "content-type": "application/json", "content-encoding": "utf-8"}
    return {**whole, "properties": properties, **fields}


#: Whole rows, but for what the signing of checkpoints notes of an ended run.
RECORD = tuple(
    f"SELECT (to_jsonb({table}) - 'checkpoint')::text AS row FROM {table} WHERE run_id = :id ORDER BY row"
    for table in ("step", "attempt", "run_state", "audit_event")
)
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


QUEUES = ("control", "commands")


def _copied(house: Runtime) -> dict[str, list[bytes]]:
    """The messages that wait, as they are."""
    client, prefix = house.context.side_channel.client, house.settings.redis_prefix
    return {queue: _bytes(client.lrange(f"{prefix}{queue}", 0, -1)) for queue in QUEUES}


def _bytes(answer: Any) -> list[bytes]:
    return list(answer)


def _push_all(house: Runtime, copies: dict[str, list[bytes]]) -> None:
    """Put copies back, the newest first: the other way round than they were sent."""
    for queue, messages in copies.items():
        if messages:
            _push(house, queue, *messages)


def _wait_until_all_are_read(house: Runtime) -> None:
    """Two steps behind all messages, a slot each: then nothing before them is still on its way."""
    for queue_step in (shell_step("w", "true"), noop_step("w")):
        witness = submitted(house.context, [queue_step, {**queue_step, "id": "v"}])
        assert wait_for_end(house.context, witness) is RunState.COMPLETED


def _record(house: Runtime, run_id: RunId) -> list[Any]:
    """All that a message could change of a run."""
    with house.context.database.transaction() as tx:
        return [tx.execute(text(statement), {"id": run_id}).all() for statement in RECORD]


def test_copies_of_whole_chains_change_nothing_at_any_time(house: Runtime, start_worker: Start, tmp_path: Path) -> None:
    marker, mended = tmp_path / "marker", tmp_path / "mended"
    chain = [shell_step(f"c{i}", f"echo c{i} >> {marker}", needs=[f"c{i - 1}"] if i else []) for i in range(6)]
    breaking = shell_step("breaking", f"echo breaking >> {marker}; test -e {mended}", needs=["c5"])
    after = [shell_step(f"a{i}", f"echo a{i} >> {marker}", needs=[f"a{i - 1}" if i else "breaking"]) for i in range(4)]
    run_id = submitted(house.context, [*chain, breaking, *after, noop_step("other", needs=[])])
    copies = _copied(house)
    assert sum(map(len, copies.values())) == 2  # a chain of eleven, and one of one
    _push_all(house, copies)
    worker = start_worker("-c", "2")
    wait_for(lambda: len(lines_of(marker)) >= 3)
    _push_all(house, copies)
    assert wait_for_end(house.context, run_id) is RunState.FAILED

    _unchanged_by(house, worker, run_id, copies)
    mended.touch()
    retry(house.context, run_id, "tester@test")
    _push_all(house, copies)  # of the old round, whose chain names what the new one sends
    assert wait_for_end(house.context, run_id) is RunState.COMPLETED
    _unchanged_by(house, worker, run_id, copies)

    expected = {step["id"]: 1 for step in (*chain, *after)} | {"breaking": 2}
    assert Counter(lines_of(marker)) == expected
    assert len(attempt_rows(house.context, run_id)) == sum(expected.values()) + 1
    assert verify_run(house.context, run_id).findings == ()


def _unchanged_by(house: Runtime, worker: WorkerProcess, run_id: RunId, copies: dict[str, list[bytes]]) -> None:
    """Each copy is refused once, and none passes on the chain that it carries."""
    _wait_until_all_are_read(house)
    before, refused = _record(house, run_id), worker.output().count("claim_refused")
    for _ in range(2):
        _push_all(house, copies)
    _wait_until_all_are_read(house)
    assert _record(house, run_id) == before
    assert worker.output().count("claim_refused") == refused + 2 * sum(map(len, copies.values()))


def test_a_copy_that_comes_before_its_step_is_due_again_starts_nothing(house: Runtime, start_worker: Start) -> None:
    run_id = submitted(
        house.context, [shell_step("flaky", "exit 75", retry={"base": "600s"}), noop_step("after", needs=["flaky"])]
    )
    copies = _copied(house)
    worker = start_worker("-c", "2")
    wait_for(lambda: step_rows(house.context, run_id)["flaky"].state == "retrying")

    _unchanged_by(house, worker, run_id, copies)

    assert [row.number for row in attempt_rows(house.context, run_id)] == [1]


def test_messages_for_nobody_are_passed_over(house: Runtime, start_worker: Start) -> None:
    run_id = submitted(house.context, [noop_step("one"), noop_step("held", needs=["one"])])
    celery = house.celery
    start_worker("-c", "2")
    assert wait_for_end(house.context, run_id) is RunState.COMPLETED
    before = _record(house, run_id)

    for named in (
        {"run_id": str(fresh_run_id()), "step_id": "one"},
        {"run_id": str(run_id), "step_id": "unheard of"},
        {"run_id": "no id", "step_id": "one"},
        {"run_id": str(run_id)},
        {"run_id": str(run_id), "step_id": "one", "more": 1},
        {"run_id": None, "step_id": None},
    ):
        celery.send_task("agentflow.noop", kwargs=named, queue="control")
    celery.send_task("agentflow.unheard_of", kwargs={}, queue="control")
    _wait_until_all_are_read(house)

    assert _record(house, run_id) == before


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
    assert "at=json.decoder.raw_decode" in worker.output()


@pytest.mark.parametrize("name", ["no JSON", "no object"])
def test_without_the_guard_such_a_message_ends_the_worker(house: Runtime, start_worker: Start, name: str) -> None:
    """Once this fails, the guard can go."""
    worker = start_worker("-c", "1", app="tests.faults.without_guard")

    _push(house, "control", UNREADABLE[name])

    assert worker.process.wait(30) == 1
    assert "Unrecoverable error" in worker.output()
