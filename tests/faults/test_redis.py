"""Redis forgets, goes away, comes back with old data, is full, freezes: runs complete, limits hold, workers go on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from agentflow.domain.state import RunState
from agentflow.runtime import Runtime
from tests.factories import lines_of, shell_step, submitted, wait_for, wait_for_end
from tests.faults.servers import FaultyRedis
from tests.workers import WorkerProcess

Start = Callable[..., WorkerProcess]


def _chain(marker: Path, length: int, seconds: float = 0.2) -> list[dict[str, object]]:
    return [
        shell_step(f"c{i}", f"echo c{i} >> {marker}; sleep {seconds}", needs=[f"c{i - 1}"] if i else [])
        for i in range(length)
    ]


def test_a_redis_that_restarts_empty_is_served_again_by_the_same_processes(
    house: Runtime, own_redis: FaultyRedis, start_worker: Start, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    worker = start_worker("-c", "2")
    processes = worker.processes()
    run_id = submitted(house.context, _chain(marker, 8))
    wait_for(lambda: len(lines_of(marker)) >= 2)

    own_redis.kill()
    own_redis.wipe()
    own_redis.start()

    assert wait_for_end(house.context, run_id) is RunState.COMPLETED
    assert lines_of(marker) == [f"c{i}" for i in range(8)]
    assert set(processes) <= set(worker.processes())
