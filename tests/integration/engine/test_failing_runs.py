"""What a failure does to the rest of its run: stop, continue, conditions, skipping, and how the run ends."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.reason import ReasonCode
from agentflow.domain.state import RunState
from agentflow.engine.execute import Doorbell, execute
from agentflow.runtime import Runtime
from tests.factories import noop_step, run_state, shell_step, step_rows, submitted, wait_for, work_off

FAILS = {"retry": 1}


def _states(house: Runtime, run_id: RunId) -> dict[str, str]:
    return {key: row.state for key, row in step_rows(house.context, run_id).items()}


def _reasons(house: Runtime, run_id: RunId) -> dict[str, str | None]:
    return {key: row.reason and row.reason["code"] for key, row in step_rows(house.context, run_id).items()}


def _run_reason(house: Runtime, run_id: RunId) -> dict[str, Any]:
    with house.context.database.transaction() as tx:
        reason: dict[str, Any] = tx.exec_driver_sql(
            "SELECT reason FROM run_state WHERE run_id = %s", (run_id,)
        ).scalar_one()
    return reason


def test_a_failure_that_stops_its_run_skips_what_has_not_started(house: Runtime) -> None:
    run_id = submitted(
        house.context,
        [
            shell_step("bad", "exit 3", **FAILS),
            noop_step("after", needs=["bad"]),
            noop_step("far", needs=["after"]),
            noop_step("other", needs=[]),
        ],
    )
    execute(house.context, house.lease_keeper, Doorbell(run_id, StepKey("bad")), "test:0")

    assert run_state(house.context, run_id) is RunState.FAILED
    assert _states(house, run_id) == {"bad": "failed", "after": "skipped", "far": "skipped", "other": "skipped"}
    assert _reasons(house, run_id)["other"] == ReasonCode.STEP_FAILED
    assert _run_reason(house, run_id) == {"code": "step_failed", "detail": {"step": "bad"}}


def test_a_run_fails_only_when_its_running_attempts_have_ended(house: Runtime, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    run_id = submitted(
        house.context,
        [
            shell_step("slow", f"until [ -e {gate} ]; do sleep 0.02; done"),
            shell_step("bad", "exit 3", needs=[], **FAILS),
            noop_step("after", needs=["slow"]),
        ],
    )
    slow = threading.Thread(
        target=execute, args=(house.context, house.lease_keeper, Doorbell(run_id, StepKey("slow")), "test:1")
    )
    slow.start()
    wait_for(lambda: _states(house, run_id)["slow"] == "running")
    execute(house.context, house.lease_keeper, Doorbell(run_id, StepKey("bad")), "test:0")
    assert run_state(house.context, run_id) is RunState.FAILING

    gate.touch()
    slow.join(10)

    assert run_state(house.context, run_id) is RunState.FAILED
    assert _states(house, run_id) == {"slow": "succeeded", "bad": "failed", "after": "skipped"}


def test_a_failure_that_lets_its_run_go_on_decides_each_dependent_by_its_condition(house: Runtime) -> None:
    bad = shell_step("bad", "exit 3", on_failure="continue", **FAILS)
    run_id = submitted(
        house.context,
        [
            bad,
            noop_step("on_success", needs=["bad"]),
            noop_step("on_failure", needs=["bad"], when="failed"),
            noop_step("anyway", needs=["bad"], when="always"),
            noop_step("on_three", needs=["bad"], when="{{ steps.bad.exit_code == 3 }}"),
            noop_step("on_four", needs=["bad"], when="{{ steps.bad.exit_code == 4 }}"),
            noop_step("behind_skipped", needs=["on_success"]),
            noop_step("anyway_behind_skipped", needs=["on_success"], when="always"),
            noop_step("failed_behind_skipped", needs=["on_success"], when="failed"),
            noop_step("mixed", needs=["on_failure", "anyway"]),
        ],
    )

    assert work_off(house, run_id) is RunState.PARTIAL
    assert {key for key, state in _states(house, run_id).items() if state == "succeeded"} == {
        "on_failure",
        "anyway",
        "on_three",
        "anyway_behind_skipped",
        "mixed",
    }
    reasons = _reasons(house, run_id)
    assert {key: reasons[key] for key in ("on_success", "on_four", "behind_skipped", "failed_behind_skipped")} == {
        "on_success": ReasonCode.NEED_FAILED,
        "on_four": ReasonCode.WHEN_FALSE,
        "behind_skipped": ReasonCode.NEED_SKIPPED,
        "failed_behind_skipped": ReasonCode.NEED_SKIPPED,
    }


def test_skipping_goes_down_to_the_sinks_and_ends_the_run(house: Runtime) -> None:
    chain = [noop_step(f"s{i}", needs=[f"s{i - 1}" if i else "bad"]) for i in range(30)]
    run_id = submitted(house.context, [shell_step("bad", "exit 3", on_failure="continue", **FAILS), *chain])

    assert work_off(house, run_id) is RunState.FAILED
    assert set(_states(house, run_id).values()) == {"failed", "skipped"}


def test_a_join_of_a_failed_and_a_good_branch_waits_for_both(house: Runtime) -> None:
    run_id = submitted(
        house.context,
        [
            shell_step("bad", "exit 3", on_failure="continue", **FAILS),
            noop_step("good", needs=[]),
            noop_step("join", needs=["bad", "good"], when="always"),
        ],
    )
    execute(house.context, house.lease_keeper, Doorbell(run_id, StepKey("bad")), "test:0")
    assert _states(house, run_id)["join"] == "pending"

    assert work_off(house, run_id) is RunState.PARTIAL
    assert _states(house, run_id)["join"] == "succeeded"


def test_a_false_condition_alone_leaves_a_run_completed(house: Runtime) -> None:
    run_id = submitted(
        house.context,
        [noop_step("one"), noop_step("two", needs=["one"], when="failed"), noop_step("end", needs=["two"])],
    )

    assert work_off(house, run_id) is RunState.COMPLETED
    assert _states(house, run_id) == {"one": "succeeded", "two": "skipped", "end": "skipped"}


def test_a_condition_that_cannot_be_evaluated_is_told(house: Runtime) -> None:
    run_id = submitted(
        house.context,
        [shell_step("one", "true"), noop_step("two", needs=["one"], when="{{ steps.one.result.deeper > 1 }}")],
    )

    assert work_off(house, run_id) is RunState.PARTIAL
    assert _reasons(house, run_id)["two"] == ReasonCode.WHEN_ERROR


@pytest.mark.parametrize(
    "output",
    [r'"a\u0000b"', "1e999", r'"\ud800"', "[" * 30_000 + "]" * 30_000, "NaN"],
    ids=["NUL", "infinity", "half a pair", "too deep", "NaN"],
)
def test_a_result_that_cannot_be_stored_fails_its_step(house: Runtime, tmp_path: Path, output: str) -> None:
    answer = tmp_path / "answer"
    answer.write_text(output)
    run_id = submitted(house.context, [shell_step("tells", f"cat {answer}", outputs="stdout_json", **FAILS)])

    assert work_off(house, run_id) is RunState.FAILED
    assert _reasons(house, run_id)["tells"] == ReasonCode.OUTPUT_INVALID


def test_a_result_may_say_backslash_u(house: Runtime) -> None:
    script = "echo '" + r'["\\u0000"]' + "'"
    run_id = submitted(house.context, [shell_step("tells", f"printf '%s' {script[5:]}", outputs="stdout_json")])

    assert work_off(house, run_id) is RunState.COMPLETED
    assert step_rows(house.context, run_id)["tells"].result == [r"\u0000"]
