"""A cancel ends what waits at once and what runs provably: when the run is cancelled, no process of it is left."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from agentflow.domain.error import InvalidTransition, NotFound
from agentflow.domain.ids import RunId, StepKey, step_id
from agentflow.domain.state import AttemptState, RunState
from agentflow.engine.cancel import cancel, cancel_step
from agentflow.engine.execute import Doorbell, Refused, execute
from agentflow.engine.verify import verify_run
from agentflow.runtime import Runtime
from tests.factories import (
    attempt_rows,
    fresh_run_id,
    lines_of,
    noop_step,
    run_state,
    shell_step,
    step_rows,
    submitted,
    wait_for,
    wait_for_end,
    work_off,
)
from tests.integration.engine.conftest import Station
from tests.workers import WorkerProcess, is_alive

ACTOR = "tester@test"
STUBBORN = """
trap '' TERM
echo $$ >> {pids}
sh -c 'trap "" TERM; echo $$ >> {pids}; (trap "" TERM; sleep 90 & echo $! >> {pids}; wait) & wait' &
setsid sh -c 'trap "" TERM; echo $$ >> {pids}; sleep 90 & echo $! >> {pids}; wait' &
wait; wait; sleep 90
"""


def _states(house: Runtime, run_id: RunId) -> dict[str, str]:
    return {key: row.state for key, row in step_rows(house.context, run_id).items()}


def _wait_for_pids(path: Path, count: int) -> list[int]:
    wait_for(lambda: len(lines_of(path)) >= count)
    return [int(line) for line in lines_of(path)]


def test_a_cancelled_run_leaves_no_process(station: Station, tmp_path: Path) -> None:
    house = station.house
    pids = tmp_path / "pids"
    stubborn = shell_step("stubborn", STUBBORN.format(pids=pids), needs=[])
    run_id = submitted(
        house.context,
        [
            stubborn,
            shell_step("flaky", "exit 75", needs=[], retry={"max_attempts": 9, "base": "60s"}),
            noop_step("after", needs=["stubborn", "flaky"]),
        ],
    )
    of_command = _wait_for_pids(pids, 5)
    wait_for(lambda: _states(house, run_id)["flaky"] == "retrying")

    asked = cancel(house.context, run_id, ACTOR)

    assert (asked.is_new, asked.stopping) == (True, 1)
    assert run_state(house.context, run_id) is RunState.CANCELLING
    assert _states(house, run_id) == {"stubborn": "running", "flaky": "cancelled", "after": "cancelled"}
    assert wait_for_end(house.context, run_id, 15) is RunState.CANCELLED
    assert [pid for pid in of_command if is_alive(pid)] == []
    assert _states(house, run_id)["stubborn"] == "cancelled"
    (attempt,) = attempt_rows(house.context, run_id, "stubborn")
    assert attempt.state == AttemptState.CANCELLED
    assert verify_run(house.context, run_id).findings == ()


def test_a_cancelled_run_leaves_no_process_although_its_worker_died(station: Station, tmp_path: Path) -> None:
    house = station.house
    pids = tmp_path / "pids"
    run_id = submitted(house.context, [shell_step("stubborn", STUBBORN.format(pids=pids))])
    of_command = _wait_for_pids(pids, 5)

    os.kill(int(attempt_rows(house.context, run_id)[0].worker.rsplit(":", 1)[1]), signal.SIGKILL)
    wait_for(lambda: attempt_rows(house.context, run_id)[0].state == AttemptState.LOST)
    assert [pid for pid in of_command if is_alive(pid)]
    cancel(house.context, run_id, ACTOR)

    assert wait_for_end(house.context, run_id, 15) is RunState.CANCELLED
    assert [pid for pid in of_command if is_alive(pid)] == []


def test_a_command_that_will_not_end_is_timed_out_with_all_that_it_started(station: Station, tmp_path: Path) -> None:
    house = station.house
    pids = tmp_path / "pids"
    stubborn = shell_step("stubborn", STUBBORN.format(pids=pids), timeout="1s", retry=1)
    run_id = submitted(house.context, [stubborn])
    of_command = _wait_for_pids(pids, 5)

    assert wait_for_end(house.context, run_id, 15) is RunState.FAILED
    assert [pid for pid in of_command if is_alive(pid)] == []
    (attempt,) = attempt_rows(house.context, run_id)
    assert (attempt.state, attempt.exit_code) == (AttemptState.TIMED_OUT, 124)
    assert step_rows(house.context, run_id)["stubborn"].exit_code == 124


def test_a_cancel_whose_push_is_lost_is_heard_with_the_next_heartbeat(
    house: Runtime, start_worker: Callable[..., WorkerProcess], tmp_path: Path
) -> None:
    start_worker("-c", "1", AGENTFLOW_LEASE_SECONDS="4")
    pids = tmp_path / "pids"
    run_id = submitted(house.context, [shell_step("slow", f"echo $$ >> {pids}; exec sleep 90")])
    (command,) = _wait_for_pids(pids, 1)
    deaf = Runtime(house.settings.model_copy(update={"redis_prefix": f"elsewhere-{uuid4()}:"}))

    assert cancel(deaf.context, run_id, ACTOR).stopping == 1
    deaf.close()

    assert wait_for_end(house.context, run_id, 10) is RunState.CANCELLED
    assert not is_alive(command)


def test_a_run_that_has_not_started_is_cancelled_at_once(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("one"), noop_step("two", needs=["one"])])

    assert cancel(house.context, run_id, ACTOR).stopping == 0

    assert run_state(house.context, run_id) is RunState.CANCELLED
    assert set(_states(house, run_id).values()) == {"cancelled"}
    answered = execute(house.context, house.lease_keeper, Doorbell(run_id, StepKey("one")), "test:0")
    assert isinstance(answered, Refused)
    assert answered.refusal.value == "step_cancelled"


def test_a_second_cancel_changes_nothing_and_an_ended_run_refuses_it(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("one")])
    cancel(house.context, run_id, ACTOR)
    before = verify_run(house.context, run_id).events

    with pytest.raises(InvalidTransition, match="cancelled"):
        cancel(house.context, run_id, ACTOR)
    with pytest.raises(NotFound):
        cancel(house.context, fresh_run_id(), ACTOR)

    assert verify_run(house.context, run_id).events == before
    done = submitted(house.context, [noop_step("one")])
    assert work_off(house, done) is RunState.COMPLETED
    with pytest.raises(InvalidTransition, match="completed"):
        cancel(house.context, done, ACTOR)


def test_a_step_can_be_cancelled_alone(station: Station, tmp_path: Path) -> None:
    house = station.house
    pids = tmp_path / "pids"
    run_id = submitted(
        house.context,
        [
            shell_step("slow", f"echo $$ >> {pids}; exec sleep 90", needs=[], on_failure="continue"),
            shell_step("other", "sleep 1", needs=[]),
            noop_step("after_slow", needs=["slow"]),
            noop_step("waiting", needs=["other"]),
            noop_step("after_other", needs=["other"]),
        ],
    )
    (command,) = _wait_for_pids(pids, 1)

    assert cancel_step(house.context, step_id(run_id, StepKey("slow")), ACTOR).stopping == 1
    assert cancel_step(house.context, step_id(run_id, StepKey("waiting")), ACTOR).stopping == 0

    assert wait_for_end(house.context, run_id) is RunState.PARTIAL
    assert not is_alive(command)
    assert _states(house, run_id) == {
        "slow": "cancelled",
        "other": "succeeded",
        "after_slow": "skipped",
        "waiting": "cancelled",
        "after_other": "succeeded",
    }
    assert verify_run(house.context, run_id).findings == ()


def test_a_step_that_was_cancelled_is_not_tried_again_after_its_worker_died(station: Station, tmp_path: Path) -> None:
    house = station.house
    pids = tmp_path / "pids"
    run_id = submitted(
        house.context, [shell_step("slow", f"trap '' TERM; echo $$ >> {pids}; sleep 90 & wait; sleep 90")]
    )
    _wait_for_pids(pids, 1)
    child = int(attempt_rows(house.context, run_id)[0].worker.rsplit(":", 1)[1])

    cancel_step(house.context, step_id(run_id, StepKey("slow")), ACTOR)
    os.kill(child, signal.SIGKILL)

    wait_for_end(house.context, run_id)
    assert len(attempt_rows(house.context, run_id)) == 1
    assert _states(house, run_id) == {"slow": "cancelled"}
