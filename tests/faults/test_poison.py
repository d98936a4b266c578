"""A step that kills its whole worker each time: it alone is given up, not its neighbours, and is found."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agentflow import AgentFlow
from agentflow.domain.blame import SUSPECTED_FROM
from agentflow.domain.state import AttemptState, RunState
from agentflow.engine.verify import verify_run
from agentflow.runtime import Runtime
from tests.factories import attempt_rows, lines_of, noop_step, shell_step, step_rows, submitted, wait_for, wait_for_end
from tests.workers import WorkerProcess

Start = Callable[..., WorkerProcess]
MAX_LOST = 1
"""So that whoever is blamed wrongly once is poisoned."""
# The parent of the supervisor is the worker: in a pool of threads, all of it.
KILLS_ITS_WORKER = "kill -9 $(awk '{print $4}' /proc/$PPID/stat); sleep 30"


@pytest.fixture
def quick_house(house: Runtime) -> Runtime:
    """The test's installation with short leases."""
    house.settings = house.settings.model_copy(update={"lease_seconds": 2.0})
    return house


@contextmanager
def _supervised(start: Callable[[], WorkerProcess]) -> Iterator[list[WorkerProcess]]:
    """A worker that is started anew whenever it ends, as a service manager does."""
    started, stopping = [start()], threading.Event()

    def keep() -> None:
        while not stopping.is_set():
            if started[-1].process.poll() is None:
                stopping.wait(0.1)
            else:
                started.append(start())

    keeper = threading.Thread(target=keep)
    keeper.start()
    try:
        yield started
    finally:
        stopping.set()
        keeper.join()


@pytest.mark.timeout(400)
def test_a_step_that_kills_its_worker_and_all_on_it_is_found_out(
    quick_house: Runtime, start_worker: Start, tmp_path: Path
) -> None:
    house, marker = quick_house, tmp_path / "marker"
    # Its neighbours are on their way each time it dies, until it is a suspect: then they go one by one.
    slow = f"echo x >> {marker}; exec sleep 0.5"
    neighbours = [shell_step(f"n{number}", slow, needs=[], on_failure="continue") for number in range(3)]
    waits = f"while [ $(wc -l < {marker}) -lt 3 ]; do sleep 0.02; done 2>/dev/null; {KILLS_ITS_WORKER}"
    poison = shell_step("poison", waits, needs=[], on_failure="continue")
    start_worker("-c", "1", "-Q", "models", AGENTFLOW_MAX_LOST=str(MAX_LOST))  # its dispatcher leads throughout

    def start() -> WorkerProcess:
        return start_worker("-P", "threads", "-c", "4", AGENTFLOW_MAX_LOST=str(MAX_LOST))

    with _supervised(start) as workers:
        run_id = submitted(house.context, [poison, *neighbours, noop_step("after", needs=["n0", "n1", "n2"])])
        assert wait_for_end(house.context, run_id, 300) is RunState.PARTIAL
        deaths = len(workers) - 1

    rows = step_rows(house.context, run_id)
    assert (rows["poison"].state, rows["poison"].reason["code"]) == ("failed", "poisoned")
    assert {rows[key].state for key in ("n0", "n1", "n2", "after")} == {"succeeded"}
    assert [rows[key].losses for key in ("n0", "n1", "n2")] == [0, 0, 0]
    assert len(lines_of(marker)) >= 3
    states = [row.state for row in attempt_rows(house.context, run_id, "poison")]
    assert states.count(AttemptState.LOST) == len(states) <= SUSPECTED_FROM + MAX_LOST
    assert deaths <= len(states)
    with AgentFlow(house.settings) as flow:
        wait_for(lambda: [letter.step for letter in flow.dead_letters().letters] == ["poison"])
    assert verify_run(house.context, run_id).findings == ()
