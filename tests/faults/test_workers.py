"""Workers that die, freeze or are cut off in the worst moments: the run completes, and nobody had to do anything."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from agentflow.domain.state import AttemptState, RunState
from agentflow.engine.reconcile import verify_ledger
from agentflow.engine.verify import verify_run
from agentflow.runtime import Runtime
from tests.factories import (
    attempt_rows,
    lines_of,
    noop_step,
    shell_step,
    step_rows,
    submitted,
    wait_for,
    wait_for_end,
)
from tests.faults.deaths import Deaths
from tests.faults.proxy import CuttableLine
from tests.model_stub import ModelStub
from tests.workers import WorkerProcess, children, environment_of

Start = Callable[..., WorkerProcess]
QUICK_LEASE = 4.0


@pytest.fixture
def deaths(tmp_path: Path) -> Deaths:
    """Points at which this test's processes die."""
    folder = tmp_path / "deaths"
    folder.mkdir()
    return Deaths(folder)


@pytest.fixture
def quick_house(house: Runtime) -> Runtime:
    """The test's installation with short leases."""
    house.settings = house.settings.model_copy(update={"lease_seconds": QUICK_LEASE})
    return house


def _chain_and_fan(marker: Path) -> list[dict[str, object]]:
    """Three steps of one chain, a fan of two, and their join; each notes that it was started."""
    needs = {"a": [], "b": ["a"], "c": ["b"], "d": ["c"], "e": ["c"], "f": ["d", "e"]}
    return [shell_step(key, f"echo {key} >> {marker}", needs=found) for key, found in needs.items()]


def test_a_pool_child_may_die_at_any_point_of_a_step(
    house: Runtime, start_worker: Start, deaths: Deaths, tmp_path: Path
) -> None:
    """Between claim and start, between the end of the work and its settle, and on both sides of the sends after it."""
    start_worker("-c", "2", **deaths.environment)
    for point, has_lost in (("claimed", True), ("performed", True), ("settled", False), ("sent", False)):
        marker = tmp_path / point
        deaths.ask(point)

        run_id = submitted(house.context, _chain_and_fan(marker))

        assert wait_for_end(house.context, run_id) is RunState.COMPLETED, point
        assert deaths.is_met(point)
        states = Counter(row.state for row in attempt_rows(house.context, run_id))
        assert states == Counter({AttemptState.SUCCEEDED: 6, AttemptState.LOST: int(has_lost)}), point
        started = Counter(lines_of(marker))
        assert set(started) == set("abcdef")
        assert started.total() == 6 + (point == "performed"), started
        assert verify_run(house.context, run_id).findings == ()


def test_a_dispatcher_may_die_between_its_commit_and_its_sends(
    house: Runtime, start_worker: Start, deaths: Deaths
) -> None:
    start_worker("-c", "2", **deaths.environment)
    deaths.ask("stamped")

    run_id = submitted(house.context, [noop_step(f"s{number}", needs=[]) for number in range(40)])

    assert wait_for_end(house.context, run_id) is RunState.COMPLETED
    assert deaths.is_met("stamped")
    assert len(attempt_rows(house.context, run_id)) == 40


def test_a_producer_may_die_between_the_commit_of_its_run_and_the_sends(
    house: Runtime, worker: WorkerProcess, deaths: Deaths, tmp_path: Path
) -> None:
    program = (
        "from agentflow import AgentFlow, Plan\n"
        "plan = Plan('orphaned')\n"
        "plan.subprocess('one', ['true'])\n"
        "AgentFlow().submit(plan)\n"
    )
    deaths.ask("submitted")
    environment = {**environment_of(house.settings, tmp_path), **deaths.environment}

    died = subprocess.run([sys.executable, "-c", program], env=environment, cwd=tmp_path, check=False)

    assert died.returncode == -signal.SIGKILL
    with house.context.database.transaction() as tx:
        (run_id,) = tx.exec_driver_sql("SELECT id FROM run").scalars()
    assert wait_for_end(house.context, run_id) is RunState.COMPLETED


def test_a_worker_may_die_between_the_reservation_and_the_call(
    quick_house: Runtime, start_worker: Start, deaths: Deaths, tmp_path: Path
) -> None:
    """Its budget is whole again: what it had reserved is charged or let go, and nothing is counted twice."""
    house = quick_house
    with ModelStub() as stub:
        threads = ("-P", "threads", "-c", "2")
        dying = start_worker(*threads, **stub.environment(tmp_path), **deaths.environment)
        deaths.ask("reserved")
        ask = {"id": "ask", "llm": {"model": "stub:ok", "prompt": "hello", "max_tokens": 10}, "needs": []}
        run_id = submitted(house.context, [ask, noop_step("after", needs=["ask"])], budget={"tokens": 100_000})
        deaths.wait_for("reserved")
        dying.process.wait(10)
        start_worker(*threads, **stub.environment(tmp_path))

        assert wait_for_end(house.context, run_id) is RunState.COMPLETED
        assert len(stub.wait_until_idle()) == 1
    lost, again = attempt_rows(house.context, run_id, "ask")
    assert (lost.state, again.state) == (AttemptState.LOST, AttemptState.SUCCEEDED)
    wait_for(lambda: not verify_ledger(house.context))


def test_a_main_process_that_is_killed_alone_leaves_every_step_to_be_settled_once(
    quick_house: Runtime, start_worker: Start, tmp_path: Path
) -> None:
    house, marker = quick_house, tmp_path / "marker"
    worker = start_worker("-c", "2")
    steps = [shell_step(f"s{number}", f"echo s{number} >> {marker}; sleep 1", needs=[]) for number in range(4)]
    run_id = submitted(house.context, [*steps, noop_step("after", needs=[step["id"] for step in steps])])
    wait_for(lambda: len(lines_of(marker)) >= 2)

    worker.send(signal.SIGKILL)
    worker.process.wait(10)
    start_worker("-c", "2")

    assert wait_for_end(house.context, run_id) is RunState.COMPLETED
    succeeded = [row for row in attempt_rows(house.context, run_id) if row.state == AttemptState.SUCCEEDED]
    assert len(succeeded) == 5
    assert verify_run(house.context, run_id).findings == ()


def test_a_supervisor_that_is_killed_costs_an_attempt_and_no_run(
    house: Runtime, worker: WorkerProcess, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    script = f"echo $PPID >> {marker}; [ $AGENTFLOW_ATTEMPT -ge 2 ] || exec sleep 60"
    run_id = submitted(house.context, [shell_step("work", script, retry=2), noop_step("after", needs=["work"])])
    supervisor = int(wait_for(lambda: lines_of(marker))[0])
    assert supervisor in worker.processes()

    os.kill(supervisor, signal.SIGKILL)

    assert wait_for_end(house.context, run_id) is RunState.COMPLETED
    failed, again = attempt_rows(house.context, run_id, "work")
    assert (failed.state, failed.reason["code"]) == (AttemptState.FAILED, "supervisor_lost")
    assert again.state == AttemptState.SUCCEEDED
    assert worker.process.poll() is None


def test_a_stop_that_reaches_every_process_of_a_worker_is_laid_to_no_step(
    house: Runtime, start_worker: Start, tmp_path: Path
) -> None:
    """Such as systemd's default: the pool children end at once, before they can give anything back."""
    marker = tmp_path / "marker"
    worker = start_worker("-c", "1")
    script = f"echo x >> {marker}; [ $AGENTFLOW_ATTEMPT -ge 2 ] || exec sleep 60"
    run_id = submitted(house.context, [shell_step("work", script)])
    wait_for(lambda: lines_of(marker))

    for pid in (worker.pid, *children(worker.pid)):
        os.kill(pid, signal.SIGTERM)
    worker.process.wait(30)
    start_worker("-c", "1")

    assert wait_for_end(house.context, run_id, 60) is RunState.COMPLETED
    broken_off, again = attempt_rows(house.context, run_id)
    assert (broken_off.state, again.state) == (AttemptState.LOST, AttemptState.SUCCEEDED)
    assert step_rows(house.context, run_id)["work"].losses == 0


def test_a_worker_that_is_cut_off_from_postgres_is_replaced_and_its_late_word_refused(
    quick_house: Runtime, start_worker: Start, tmp_path: Path
) -> None:
    """Its command is ended before the other one starts, by the supervisor: nobody reaches the worker any more."""
    house, marker = quick_house, tmp_path / "marker"
    assert house.settings.database_url is not None
    script = (
        f"while echo $AGENTFLOW_ATTEMPT $(date +%s%N) >> {marker}; "
        "do [ $AGENTFLOW_ATTEMPT -ge 2 ] && exit 0; sleep 0.05; done"
    )
    with CuttableLine(house.settings.database_url.get_secret_value()) as line:
        cut_off = start_worker("-c", "1", AGENTFLOW_DATABASE_URL=line.url)
        run_id = submitted(house.context, [shell_step("work", script), noop_step("after", needs=["work"])])
        wait_for(lambda: lines_of(marker))
        with line.cut():
            start_worker("-c", "1")
            assert wait_for_end(house.context, run_id, 60) is RunState.COMPLETED
        wait_for(lambda: "settle_refused" in cut_off.output())

    lost, again = attempt_rows(house.context, run_id, "work")
    assert (lost.state, again.state) == (AttemptState.LOST, AttemptState.SUCCEEDED)
    times: dict[str, list[int]] = {"1": [], "2": []}
    for number, at in (entry.split() for entry in lines_of(marker)):
        times[number].append(int(at))
    assert len(times["1"]) > 10
    assert max(times["1"]) < min(times["2"])
    assert verify_run(house.context, run_id).findings == ()
