"""A worker that is stopped lets attempts finish within its grace and gives the rest back, quickly and without loss."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from agentflow.domain.state import AttemptState, RunState
from agentflow.engine.verify import verify_run
from agentflow.runtime import Runtime
from tests.factories import (
    attempt_rows,
    lines_of,
    shell_step,
    step_rows,
    submitted,
    wait_for,
    wait_for_end,
)
from tests.workers import WorkerProcess, is_alive

Start = Callable[..., WorkerProcess]
GRACE, KILL_GRACE, SLACK = 2, 1, 5


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_what_fits_into_the_grace_finishes_and_what_does_not_is_given_back(
    house: Runtime, start_worker: Start, tmp_path: Path, pool: str
) -> None:
    worker = start_worker("-c", "3", "-P", pool, AGENTFLOW_DRAIN_SECONDS=str(GRACE))
    pids = tmp_path / "pids"
    run_id = submitted(
        house.context,
        [
            shell_step("short", f"echo $$ >> {pids}; sleep 1", needs=[]),
            shell_step("long", f"echo $$ >> {pids}; [ $AGENTFLOW_ATTEMPT -ge 2 ] || exec sleep 90", needs=[]),
            shell_step("once", f"echo $$ >> {pids}; exec sleep 90", needs=[], on_lost="hold"),
        ],
    )
    wait_for(lambda: len(lines_of(pids)) == 3)

    began = time.monotonic()
    assert worker.stop(GRACE + KILL_GRACE + SLACK + 10) == 0
    assert time.monotonic() - began < GRACE + KILL_GRACE + SLACK

    assert [pid for pid in lines_of(pids) if is_alive(int(pid))] == []
    (short,), (long,) = (attempt_rows(house.context, run_id, key) for key in ("short", "long"))
    assert (short.state, long.state) == (AttemptState.SUCCEEDED, AttemptState.RELEASED)
    rows = step_rows(house.context, run_id)
    assert (rows["long"].state, rows["long"].failures, rows["long"].losses) == ("ready", 0, 0)
    # What must not start twice waits for a person.
    assert (rows["once"].state, rows["once"].reason["code"]) == ("held", "awaits_person")
    assert verify_run(house.context, run_id).findings == ()


def test_what_was_given_back_is_run_by_another_worker_at_once(
    house: Runtime, start_worker: Start, tmp_path: Path
) -> None:
    stopping = start_worker("-c", "1", AGENTFLOW_DRAIN_SECONDS="0")
    marker = tmp_path / "marker"
    run_id = submitted(
        house.context, [shell_step("long", f"echo x >> {marker}; [ $AGENTFLOW_ATTEMPT -ge 2 ] || exec sleep 90")]
    )
    wait_for(lambda: lines_of(marker))
    start_worker("-c", "1")

    stopping.send(signal.SIGTERM)

    assert wait_for_end(house.context, run_id, 15) is RunState.COMPLETED
    released, succeeded = attempt_rows(house.context, run_id)
    assert (released.state, succeeded.state) == (AttemptState.RELEASED, AttemptState.SUCCEEDED)
    assert released.worker.split(":")[0] != succeeded.worker.split(":")[0]
    assert (succeeded.started_at - released.ended_at).total_seconds() < 2
    assert stopping.process.wait(10) == 0


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_an_idle_worker_stops_quickly(start_worker: Start, pool: str) -> None:
    worker = start_worker("-P", pool)
    everything = worker.processes()

    began = time.monotonic()
    assert worker.stop() == 0
    assert time.monotonic() - began < 6
    wait_for(lambda: not any(is_alive(pid) for pid in everything), 5)


def test_stops_while_short_steps_finish_are_quick_and_lose_or_double_nothing(
    house: Runtime, start_worker: Start, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    steps = [shell_step(f"s{i}", f"echo s{i} >> {marker}; sleep 0.05", needs=[]) for i in range(50)]
    run_id = submitted(house.context, steps)
    stops = []
    for number in range(1, 3):
        worker = start_worker("-c", "2")
        wait_for(lambda number=number: len(lines_of(marker)) >= number * 15)
        began = time.monotonic()
        assert worker.stop(60) == 0
        stops.append(time.monotonic() - began)

    assert max(stops) < 8, stops
    start_worker("-c", "2")
    assert wait_for_end(house.context, run_id, 60) is RunState.COMPLETED
    assert Counter(lines_of(marker)) == {step["id"]: 1 for step in steps}
    assert Counter(row.state for row in attempt_rows(house.context, run_id)) == {AttemptState.SUCCEEDED: len(steps)}
