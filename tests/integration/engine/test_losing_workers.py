"""Workers are killed in mid-step: their attempts are lost, their steps are not."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from agentflow.domain.error import InvalidTransition
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.reason import ReasonCode
from agentflow.domain.state import AttemptState, RunFacts, RunState, ShownRunState, shown_state
from agentflow.domain.transition import MAX_LOST
from agentflow.engine.cancel import cancel
from agentflow.engine.retry import retry
from agentflow.engine.verify import verify_run
from agentflow.runtime import Runtime
from agentflow.settings import Settings
from tests.factories import (
    attempt_rows,
    lines_of,
    noop_step,
    run_state,
    shell_step,
    step_rows,
    submitted,
    wait_for,
    wait_for_end,
)
from tests.integration.engine.conftest import Station
from tests.workers import WorkerProcess, children, is_alive

Start = Callable[..., WorkerProcess]
KILLS_ITS_WORKER = "kill -9 $(awk '{print $4}' /proc/$PPID/stat); sleep 30"  # the supervisor's parent: a pool child


@pytest.fixture
def quick_lease(settings: Settings) -> Settings:
    """Four seconds in place of twenty."""
    return settings.model_copy(update={"lease_seconds": 4.0})


@pytest.fixture
def quick_house(quick_lease: Settings, house: Runtime) -> Runtime:
    """The test's installation with short leases."""
    house.settings = quick_lease
    return house


def _breaks_off(marker: Path, **fields: Any) -> dict[str, Any]:
    """A step whose first attempt never ends by itself."""
    return shell_step(
        "work", f"echo $AGENTFLOW_ATTEMPT >> {marker}; [ $AGENTFLOW_ATTEMPT -ge 2 ] || sleep 60", **fields
    )


def _seconds_until_seen(house: Runtime, run_id: RunId, killed_at: float) -> float:
    """How long after the kill the attempt was ended, by the database's clock."""
    with house.context.database.transaction() as tx:
        ended_at = tx.execute(
            text("SELECT extract(epoch FROM min(ended_at)) FROM attempt WHERE run_id = :id AND state = 'lost'"),
            {"id": run_id},
        ).scalar_one()
    return float(ended_at) - killed_at


def _processes_with(mark: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdigit() and mark.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return [pid for pid in found if pid != os.getpid() and is_alive(pid)]


def test_a_run_survives_the_death_of_all_worker_processes(
    quick_house: Runtime, start_worker: Start, tmp_path: Path
) -> None:
    house, marker = quick_house, tmp_path / "marker"
    worker = start_worker()
    run_id = submitted(house.context, [_breaks_off(marker), noop_step("after", needs=["work"])])
    wait_for(lambda: lines_of(marker))

    worker.kill()
    start_worker()

    assert wait_for_end(house.context, run_id) is RunState.COMPLETED
    lost, again = attempt_rows(house.context, run_id, "work")
    assert (lost.state, again.state) == (AttemptState.LOST, AttemptState.SUCCEEDED)
    assert lost.reason == {"code": "worker_lost", "detail": {"worker": lost.worker}}
    assert lines_of(marker) == ["1", "2"]
    assert verify_run(house.context, run_id).findings == ()


def test_a_frozen_worker_loses_its_attempt_and_works_on_once_it_thaws(
    quick_house: Runtime, start_worker: Start, tmp_path: Path
) -> None:
    house, marker = quick_house, tmp_path / "marker"
    frozen = start_worker("-c", "1")
    run_id = submitted(house.context, [_breaks_off(marker), noop_step("after", needs=["work"])])
    wait_for(lambda: lines_of(marker))
    other = start_worker("-c", "1")

    frozen.send_all(signal.SIGSTOP)
    assert wait_for_end(house.context, run_id) is RunState.COMPLETED
    frozen.send_all(signal.SIGCONT)
    assert other.stop() == 0

    again = submitted(house.context, [shell_step("again", "sleep 4.5")])  # longer than its lease: it is extended again
    assert wait_for_end(house.context, again) is RunState.COMPLETED
    assert [row.state for row in attempt_rows(house.context, again)] == [AttemptState.SUCCEEDED]
    lost, succeeded = attempt_rows(house.context, run_id, "work")
    assert (lost.state, succeeded.state) == (AttemptState.LOST, AttemptState.SUCCEEDED)
    assert lines_of(marker) == ["1", "2"]
    assert verify_run(house.context, run_id).findings == ()


def test_a_crash_is_seen_within_thirty_seconds_at_the_default_lease(
    house: Runtime, start_worker: Start, tmp_path: Path
) -> None:
    assert house.settings.lease_seconds == 20
    marker = tmp_path / "marker"
    worker, _ = start_worker("-c", "1", "-n", "victim@%h"), start_worker("-c", "1", "-Q", "control")
    run_id = submitted(house.context, [_breaks_off(marker)])
    wait_for(lambda: lines_of(marker))

    killed_at = time.time()
    worker.kill()

    wait_for(lambda: attempt_rows(house.context, run_id)[0].state == AttemptState.LOST, 40)
    assert _seconds_until_seen(house, run_id, killed_at) < 30


def test_a_killed_pool_child_is_rescued_at_once(station: Station, tmp_path: Path) -> None:
    house = station.house
    marker = tmp_path / "marker"
    run_id = submitted(house.context, [_breaks_off(marker), noop_step("after", needs=["work"])])
    wait_for(lambda: lines_of(marker))
    child = int(attempt_rows(house.context, run_id)[0].worker.rsplit(":", 1)[1])
    assert child in children(station.worker.pid)

    killed_at = time.time()
    os.kill(child, signal.SIGKILL)

    assert wait_for_end(house.context, run_id) is RunState.COMPLETED
    assert _seconds_until_seen(house, run_id, killed_at) < 3  # the lease would last 20
    lost, again = attempt_rows(house.context, run_id, "work")
    assert (lost.state, again.state) == (AttemptState.LOST, AttemptState.SUCCEEDED)
    # The old command had its kill grace to itself.
    assert (again.started_at - lost.ended_at).total_seconds() >= house.settings.kill_grace_seconds


def test_a_step_that_kills_its_worker_each_time_is_given_up_and_its_neighbours_complete(station: Station) -> None:
    house = station.house
    neighbours = [shell_step(f"n{i}", "sleep 0.2", needs=[]) for i in range(6)]
    poison = shell_step("poison", KILLS_ITS_WORKER, needs=[], on_failure="continue")
    run_id = submitted(house.context, [poison, *neighbours])

    assert wait_for_end(house.context, run_id, 60) is RunState.PARTIAL
    rows = step_rows(house.context, run_id)
    assert rows["poison"].state == "failed"
    assert rows["poison"].reason == {"code": ReasonCode.POISONED, "detail": {"lost": MAX_LOST}}
    assert [row.state for row in attempt_rows(house.context, run_id, "poison")] == [AttemptState.LOST] * MAX_LOST
    assert {rows[step["id"]].state for step in neighbours} == {"succeeded"}


def test_a_step_that_must_not_start_twice_waits_for_a_person(station: Station, tmp_path: Path) -> None:
    house = station.house
    marker = tmp_path / "marker"
    run_id = submitted(house.context, [_breaks_off(marker, on_lost="hold"), noop_step("after", needs=["work"])])
    wait_for(lambda: lines_of(marker))
    os.kill(int(attempt_rows(house.context, run_id)[0].worker.rsplit(":", 1)[1]), signal.SIGKILL)
    wait_for(lambda: step_rows(house.context, run_id)["work"].state == "held")

    states = [row.state for row in step_rows(house.context, run_id).values()]
    assert states == ["held", "pending"]
    facts = RunFacts(run_state(house.context, run_id), held_steps=states.count("held"))
    assert shown_state(facts) is ShownRunState.WAITING
    with pytest.raises(InvalidTransition):
        retry(house.context, run_id, "tester@test", only=StepKey("after"))

    retry(house.context, run_id, "tester@test", only=StepKey("work"))

    assert wait_for_end(house.context, run_id) is RunState.COMPLETED
    assert lines_of(marker) == ["1", "2"]
    assert verify_run(house.context, run_id).findings == ()


def test_a_worker_killed_while_it_starts_a_command_leaves_no_orphan(
    quick_house: Runtime, start_worker: Start, tmp_path: Path
) -> None:
    house = quick_house
    for _ in range(3):
        mark = f"orphan-{uuid4().hex}"
        worker = start_worker("-c", "2")
        commands = [
            shell_step(f"c{i}", f": {mark}; (setsid sleep 77.{i} {mark} 2>/dev/null || sleep 77) & sleep 60", needs=[])
            for i in range(2)
        ]
        run_id = submitted(house.context, commands)
        wait_for(lambda run_id=run_id: attempt_rows(house.context, run_id))
        time.sleep(random.uniform(0, 0.04))  # noqa: S311 - the moment of death
        worker.kill()

        wait_for(lambda mark=mark: not _processes_with(mark), 10)
        # What this worker had popped and not begun would hold both places of the next one.
        cancel(house.context, run_id, "tester@test")
