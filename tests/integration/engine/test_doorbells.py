"""Doorbells may be lost, doubled, late and out of order: nothing follows from that but time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import redis

from agentflow.broker.dispatch import queue_depths, send
from agentflow.broker.queues import COMMANDS, CONTROL
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.state import AttemptState, RunState
from agentflow.engine.context import PlanView
from agentflow.engine.verify import verify_run
from agentflow.runtime import Runtime
from tests.factories import (
    attempt_rows,
    lines_of,
    noop_step,
    planned,
    shell_step,
    step_rows,
    submitted,
    wait_for,
    wait_for_end,
)
from tests.workers import WorkerProcess

Start = Callable[..., WorkerProcess]


def _forget_everything(house: Runtime) -> int:
    """What FLUSHALL does, for the keys of this test only."""
    client = redis.Redis.from_url(house.servers.redis_url)
    keys = list(client.scan_iter(f"{house.settings.redis_prefix}*"))
    deleted = int(client.delete(*keys)) if keys else 0
    client.close()
    return deleted


def test_a_run_completes_although_redis_forgot_everything(house: Runtime, start_worker: Start, tmp_path: Path) -> None:
    """Before a worker is there, and again in the middle of the run."""
    marker = tmp_path / "marker"
    chain = [
        shell_step(f"c{i}", f"echo c{i} >> {marker}; sleep 0.1", needs=[f"c{i - 1}"] if i else []) for i in range(12)
    ]
    wide = [shell_step(f"w{i}", f"echo w{i} >> {marker}; sleep 0.1", needs=[]) for i in range(24)]
    run_id = submitted(house.context, [*chain, *wide])
    assert queue_depths(house.celery)[COMMANDS] == 16
    assert _forget_everything(house) > 0
    assert queue_depths(house.celery)[COMMANDS] == 0

    start_worker("-c", "2")
    for lines in (4, 16):
        wait_for(lambda lines=lines: len(lines_of(marker)) >= lines)
        _forget_everything(house)

    assert wait_for_end(house.context, run_id, 60) is RunState.COMPLETED
    assert Counter(lines_of(marker)) == {step["id"]: 1 for step in [*chain, *wide]}
    assert Counter(row.state for row in attempt_rows(house.context, run_id)) == {AttemptState.SUCCEEDED: 36}


def test_doubled_late_and_unordered_doorbells_change_nothing(
    house: Runtime, start_worker: Start, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    steps = [shell_step(f"s{i}", f"echo s{i} >> {marker}", needs=[f"s{i - 1}"] if i else []) for i in range(10)]
    view = PlanView(planned(steps)[0])
    run_id = submitted(house.context, steps)
    _ring(house, view, run_id, "s0", "s0", "s7", "s3", "s9", "s0")
    start_worker("-c", "4")
    wait_for(lambda: len(lines_of(marker)) >= 3)
    _ring(house, view, run_id, "s1", "s0", "s5", "s9")

    assert wait_for_end(house.context, run_id) is RunState.COMPLETED
    _ring(house, view, run_id, "s0", "s9", "s4")
    wait_for(lambda: queue_depths(house.celery)[COMMANDS] == 0)
    witness = submitted(house.context, [shell_step("witness", "true")])  # behind the late ones in the same queue
    assert wait_for_end(house.context, witness) is RunState.COMPLETED

    assert lines_of(marker) == [step["id"] for step in steps]
    assert [row.state for row in attempt_rows(house.context, run_id)] == [AttemptState.SUCCEEDED] * 10
    assert {row.event_sequence for row in step_rows(house.context, run_id).values()} == {2}  # a claim and a settle each
    assert verify_run(house.context, run_id).findings == ()


def _ring(house: Runtime, view: PlanView, run_id: RunId, *keys: str) -> None:
    send(house.celery, [view.bells(run_id, StepKey(key), 16) for key in keys])


def test_what_a_submit_does_not_send_itself_the_dispatcher_sends(house: Runtime, worker: WorkerProcess) -> None:
    run_id = submitted(house.context, [noop_step(f"s{i}", needs=[]) for i in range(100)])

    assert wait_for_end(house.context, run_id) is RunState.COMPLETED
    attempts = attempt_rows(house.context, run_id)
    # The wake-up was heard: nothing waited for the second that a poll takes.
    assert max((after.started_at - before.started_at).total_seconds() for before, after in pairwise(attempts)) < 0.9


def test_no_more_doorbells_are_sent_than_a_queue_shall_hold(house: Runtime, start_worker: Start) -> None:
    run_id = submitted(house.context, [noop_step(f"s{i}", needs=[]) for i in range(60)])
    start_worker("-Q", COMMANDS, AGENTFLOW_DOORBELLS_PER_QUEUE="25")  # it sends, and serves another queue

    wait_for(lambda: queue_depths(house.celery)[CONTROL] >= 25)
    noted = [row for row in step_rows(house.context, run_id).values() if row.sent_at is not None]
    assert len(noted) == queue_depths(house.celery)[CONTROL] == 25
