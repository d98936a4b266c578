"""A worker that takes nothing although messages wait recovers, or ends for its supervisor; no other one does."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from pydantic import SecretStr

from agentflow.domain.state import RunState
from agentflow.embedded import EmbeddedValkey
from agentflow.runtime import Runtime
from agentflow.worker.watchdog import EXIT_CODE
from tests.factories import lines_of, noop_step, run_state, shell_step, submitted, wait_for, wait_for_end
from tests.workers import WorkerProcess, is_alive

STARVING = {"AGENTFLOW_STARVATION_SECONDS": "2"}


@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_whose_consumer_is_deaf_connects_anew_and_goes_on(
    house: Runtime, start_worker: Callable[..., WorkerProcess], pool: str
) -> None:
    worker = start_worker("-c", "1", "-P", pool, "-I", "tests.deaf.channel", **STARVING)
    run_id = submitted(house.context, [noop_step("a")])

    assert wait_for_end(house.context, run_id) is RunState.COMPLETED
    assert worker.output().count("consumption_stalled") == 1
    assert "action=reconnect" in worker.output()
    assert worker.process.poll() is None


@pytest.mark.parametrize("deaf", ["transport", "loop"])
def test_a_worker_that_stays_deaf_ends_for_its_supervisor_and_leaves_no_process(
    house: Runtime, start_worker: Callable[..., WorkerProcess], deaf: str
) -> None:
    worker = start_worker("-c", "1", "-I", f"tests.deaf.{deaf}", **STARVING)
    everything = worker.processes()
    run_id = submitted(house.context, [noop_step("a")])

    assert worker.process.wait(40) == EXIT_CODE, worker.output()
    assert ("worker_ended_by_force" in worker.output()) is (deaf == "loop")  # else it ended as a stop does
    wait_for(lambda: not any(is_alive(pid) for pid in everything), 10)
    assert run_state(house.context, run_id) is RunState.RUNNING
    start_worker("-c", "1")
    assert wait_for_end(house.context, run_id) is RunState.COMPLETED


def test_a_worker_that_idles_or_is_busy_before_a_long_queue_is_left_alone(
    house: Runtime, start_worker: Callable[..., WorkerProcess]
) -> None:
    worker = start_worker("-c", "1", **STARVING)
    steps = [shell_step("long", "sleep 4", needs=[]), *(noop_step(f"s{number}", needs=[]) for number in range(20))]
    run_id = submitted(house.context, steps)

    assert wait_for_end(house.context, run_id) is RunState.COMPLETED
    with pytest.raises(subprocess.TimeoutExpired):
        worker.process.wait(3)
    assert "consumption_stalled" not in worker.output()


def test_a_frozen_redis_is_not_the_workers_fault(
    house: Runtime, start_worker: Callable[..., WorkerProcess], tmp_path: Path
) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="agentflow-test-", ignore_cleanup_errors=True) as home,
        EmbeddedValkey(Path(home), fsync=False) as valkey,
    ):
        own = Runtime(house.settings.model_copy(update={"redis_url": SecretStr(valkey.url)}))
        worker = start_worker("-c", "1", AGENTFLOW_REDIS_URL=valkey.url, **STARVING)
        marker = tmp_path / "marker"
        steps = [shell_step(key, f"echo {key} >> {marker}; sleep 1", needs=[]) for key in ("a", "b")]
        run_id = submitted(own.context, steps)
        wait_for(lambda: lines_of(marker))
        assert valkey.pid is not None

        os.kill(valkey.pid, signal.SIGSTOP)  # the other message waits in it, and the slot is free soon
        with pytest.raises(subprocess.TimeoutExpired):
            worker.process.wait(5)
        os.kill(valkey.pid, signal.SIGCONT)

        assert wait_for_end(own.context, run_id) is RunState.COMPLETED
        assert "consumption_stalled" not in worker.output()
        worker.kill()
        own.close()
