"""The verb retry: a run goes on from where it failed, in a new round; what succeeded is not run again."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agentflow.domain.error import InvalidTransition, NotFound
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.state import RunState
from agentflow.engine.cancel import cancel
from agentflow.engine.execute import Doorbell, execute
from agentflow.engine.retry import retry
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
    work_off,
)

ACTOR = "tester@test"
ONCE = {"retry": 1}


def _states(house: Runtime, run_id: RunId) -> dict[str, str]:
    return {key: row.state for key, row in step_rows(house.context, run_id).items()}


def _round(house: Runtime, run_id: RunId) -> int:
    with house.context.database.transaction() as tx:
        return int(tx.exec_driver_sql("SELECT round FROM run_state WHERE run_id = %s", (run_id,)).scalar_one())


def _fails_until(gate: Path, key: str, needs: Sequence[str] = (), **fields: Any) -> dict[str, Any]:
    return shell_step(key, f"echo {key} >> {gate}.log; [ -e {gate} ]", needs=needs, **{**ONCE, **fields})


def test_a_failed_run_goes_on_from_the_failed_step(house: Runtime, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    run_id = submitted(
        house.context,
        [
            shell_step("first", f"echo first >> {gate}.log"),
            _fails_until(gate, "second", needs=["first"]),
            noop_step("third", needs=["second"]),
            noop_step("aside", needs=["first"]),
        ],
    )
    for key in ("first", "second"):  # the failure keeps `aside` from starting
        execute(house.context, house.lease_keeper, Doorbell(run_id, StepKey(key)), "test:0")
    assert run_state(house.context, run_id) is RunState.FAILED
    gate.touch()

    retried = retry(house.context, run_id, ACTOR)

    assert (retried.ready, retried.pending) == (("second", "aside"), ("third",))
    assert run_state(house.context, run_id) is RunState.RUNNING
    assert _round(house, run_id) == 2
    assert work_off(house, run_id) is RunState.COMPLETED
    assert lines_of(Path(f"{gate}.log")) == ["first", "second", "second"]
    assert [row.number for row in attempt_rows(house.context, run_id, "second")] == [1, 2]
    assert len(attempt_rows(house.context, run_id, "first")) == 1
    assert verify_run(house.context, run_id).findings == ()


def test_a_run_can_be_retried_round_after_round(house: Runtime, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    run_id = submitted(house.context, [_fails_until(gate, "only")])
    for expected in (1, 2, 3):
        assert _round(house, run_id) == expected
        assert work_off(house, run_id) is RunState.FAILED
        retry(house.context, run_id, ACTOR)
    gate.touch()

    assert work_off(house, run_id) is RunState.COMPLETED
    assert [row.number for row in attempt_rows(house.context, run_id)] == [1, 2, 3, 4]
    assert verify_run(house.context, run_id).findings == ()


def test_a_dependent_that_ran_all_the_same_is_not_run_again(house: Runtime, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    run_id = submitted(
        house.context,
        [
            _fails_until(gate, "bad", on_failure="continue"),
            noop_step("cleanup", needs=["bad"], when="always"),
            noop_step("good", needs=["bad"]),
            noop_step("end", needs=["good", "cleanup"]),
        ],
    )
    assert work_off(house, run_id) is RunState.PARTIAL
    gate.touch()

    retry(house.context, run_id, ACTOR)

    assert work_off(house, run_id) is RunState.COMPLETED
    assert len(attempt_rows(house.context, run_id, "cleanup")) == 1
    assert set(_states(house, run_id).values()) == {"succeeded"}


def test_a_step_whose_condition_was_false_is_not_started_by_a_retry(house: Runtime, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    run_id = submitted(
        house.context,
        [
            noop_step("good"),
            noop_step("alarm", needs=["good"], when="failed"),
            noop_step("behind_alarm", needs=["alarm"]),
            _fails_until(gate, "bad", needs=["good"]),
        ],
    )
    assert work_off(house, run_id) is RunState.FAILED
    gate.touch()

    retry(house.context, run_id, ACTOR)

    assert work_off(house, run_id) is RunState.COMPLETED
    assert _states(house, run_id)["alarm"] == _states(house, run_id)["behind_alarm"] == "skipped"
    assert attempt_rows(house.context, run_id, "alarm") == []


def test_a_step_that_waited_for_a_failure_is_skipped_when_the_retry_succeeds(house: Runtime, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    run_id = submitted(
        house.context,
        [_fails_until(gate, "bad"), noop_step("alarm", needs=["bad"], when="failed"), noop_step("end", needs=["bad"])],
    )
    assert work_off(house, run_id) is RunState.FAILED
    gate.touch()

    assert retry(house.context, run_id, ACTOR).pending == ("alarm", "end")
    assert work_off(house, run_id) is RunState.COMPLETED
    assert _states(house, run_id) == {"bad": "succeeded", "alarm": "skipped", "end": "succeeded"}


def test_a_retry_of_one_step_takes_up_what_waited_for_it_and_nothing_else(house: Runtime, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    run_id = submitted(
        house.context,
        [
            _fails_until(one, "one", on_failure="continue"),
            _fails_until(two, "two", needs=[], on_failure="continue"),
            noop_step("after_one", needs=["one"]),
            noop_step("after_two", needs=["two"]),
        ],
    )
    assert work_off(house, run_id) is RunState.FAILED
    one.touch()

    retried = retry(house.context, run_id, ACTOR, only=StepKey("one"))

    assert (retried.ready, retried.pending) == (("one",), ("after_one",))
    assert work_off(house, run_id) is RunState.PARTIAL
    assert _states(house, run_id) == {
        "one": "succeeded",
        "two": "failed",
        "after_one": "succeeded",
        "after_two": "skipped",
    }


def test_a_failure_that_stops_a_run_still_fails_it_after_a_retry_of_another_step(
    house: Runtime, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    run_id = submitted(
        house.context,
        [
            _fails_until(gate, "lets_go_on", on_failure="continue"),
            shell_step("stops", "exit 1", needs=[], **ONCE),
            noop_step("kept_from_starting", needs=["lets_go_on"], when="always"),
        ],
    )
    for key in ("lets_go_on", "stops"):
        execute(house.context, house.lease_keeper, Doorbell(run_id, StepKey(key)), "test:0")
    assert run_state(house.context, run_id) is RunState.FAILED
    gate.touch()

    retry(house.context, run_id, ACTOR, only=StepKey("lets_go_on"))

    assert work_off(house, run_id) is RunState.FAILED
    assert _states(house, run_id)["lets_go_on"] == "succeeded"


def test_a_cancelled_run_goes_on_with_what_was_cancelled(house: Runtime) -> None:
    run_id = submitted(
        house.context,
        [
            noop_step("one"),
            noop_step("two", needs=["one"]),
            noop_step("alarm", needs=["one"], when="failed"),
            noop_step("end", needs=["two"]),
        ],
    )
    execute(house.context, house.lease_keeper, Doorbell(run_id, StepKey("one")), "test:0")
    cancel(house.context, run_id, ACTOR)
    assert run_state(house.context, run_id) is RunState.CANCELLED

    retry(house.context, run_id, ACTOR)

    assert work_off(house, run_id) is RunState.COMPLETED
    assert _states(house, run_id) == {"one": "succeeded", "two": "succeeded", "alarm": "skipped", "end": "succeeded"}


def test_a_run_that_still_goes_on_is_not_retried(house: Runtime, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    run_id = submitted(
        house.context,
        [
            shell_step("slow", f"until [ -e {gate} ]; do sleep 0.02; done"),
            shell_step("bad", "exit 3", needs=[], **ONCE),
        ],
    )
    slow = threading.Thread(
        target=execute, args=(house.context, house.lease_keeper, Doorbell(run_id, StepKey("slow")), "test:1")
    )
    slow.start()
    wait_for(lambda: _states(house, run_id)["slow"] == "running")
    before = _states(house, run_id)
    with pytest.raises(InvalidTransition, match="running"):
        retry(house.context, run_id, ACTOR)
    assert _states(house, run_id) == before

    execute(house.context, house.lease_keeper, Doorbell(run_id, StepKey("bad")), "test:0")
    with pytest.raises(InvalidTransition, match="failing"):
        retry(house.context, run_id, ACTOR)
    gate.touch()
    slow.join(10)
    retry(house.context, run_id, ACTOR)


def test_what_succeeded_or_is_not_there_cannot_be_retried(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("one")])
    assert work_off(house, run_id) is RunState.COMPLETED

    with pytest.raises(InvalidTransition, match="no step of it failed"):
        retry(house.context, run_id, ACTOR)
    with pytest.raises(InvalidTransition, match="succeeded"):
        retry(house.context, run_id, ACTOR, only=StepKey("one"))
    with pytest.raises(NotFound, match="two"):
        retry(house.context, run_id, ACTOR, only=StepKey("two"))
    with pytest.raises(NotFound):
        retry(house.context, fresh_run_id(), ACTOR)


def test_a_step_behind_cancelled_ones_is_not_retried_alone(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("a"), noop_step("b"), noop_step("c", needs=["a", "b"])])
    cancel(house.context, run_id, "tester")

    with pytest.raises(InvalidTransition, match="needs a, b, which were cancelled"):
        retry(house.context, run_id, "tester", only=StepKey("c"))

    assert run_state(house.context, run_id) is RunState.CANCELLED
    assert verify_run(house.context, run_id).is_intact
