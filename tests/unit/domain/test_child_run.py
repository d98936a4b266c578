"""What a step that runs another plan waits for, how it ends, and the written form of it."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

import pytest

from agentflow.domain.child_run import Awaited, ChildRun, after_child, child_run_id, next_awaited
from agentflow.domain.ids import RunId, StepId
from agentflow.domain.pause import Pause, PauseScope, paused_by
from agentflow.domain.plan_document import read_plan
from agentflow.domain.run_document import check_given
from agentflow.domain.state import RunState, StepState
from tests.unit.domain.test_plan_faults import document, only_fault

STEP = StepId(UUID(int=1))
CHILD = RunId(UUID(int=2))


def test_a_step_waits_for_a_run_that_is_named_before_it_is_made() -> None:
    first = next_awaited(STEP, 0, None)

    assert first == Awaited(child_run_id(STEP, 1), 1)
    assert Awaited.from_reason(first.reason.as_json()) == first
    assert child_run_id(STEP, 1) != child_run_id(STEP, 2)


@pytest.mark.parametrize(
    ("state", "awaited"),
    [
        (RunState.FAILED, Awaited(CHILD, 3)),
        (RunState.CANCELLED, Awaited(CHILD, 3)),
        (RunState.RUNNING, Awaited(CHILD, 2)),
        (RunState.CANCELLING, Awaited(CHILD, 2)),
        (RunState.COMPLETED, Awaited(child_run_id(STEP, 2), 1)),
        (RunState.PARTIAL, Awaited(child_run_id(STEP, 2), 1)),
    ],
)
def test_a_child_run_that_did_not_get_to_its_end_is_taken_up_again(state: RunState, awaited: Awaited) -> None:
    assert next_awaited(STEP, 1, ChildRun(CHILD, state, 2)) == awaited


@pytest.mark.parametrize(
    ("state", "end", "has_reason"),
    [
        (RunState.COMPLETED, StepState.SUCCEEDED, False),
        (RunState.PARTIAL, StepState.SUCCEEDED, True),
        (RunState.FAILED, StepState.FAILED, True),
        (RunState.CANCELLED, StepState.FAILED, True),
    ],
)
def test_a_step_ends_as_its_child_run_did(state: RunState, end: StepState, has_reason: bool) -> None:
    ends = after_child(ChildRun(CHILD, state, 1))

    assert (ends.state, ends.reason is not None) == (end, has_reason)
    assert ends.result == {"run": str(CHILD), "state": state.value}


@pytest.mark.parametrize(
    ("run", "code", "path"),
    [
        ({"vars": {}}, "missing_field", ("steps", 0, "run")),
        ({"plan": "no such name"}, "bad_value", ("steps", 0, "run", "plan")),
        ({"plan": "child@0"}, "bad_value", ("steps", 0, "run", "plan")),
        ({"plan": "../up.yaml"}, "bad_path", ("steps", 0, "run", "plan")),
        ({"plan": "{{ vars.x }}"}, "bad_value", ("steps", 0, "run", "plan")),
        ({"plan": "child", "budget": {}}, "bad_budget", ("steps", 0, "run", "budget")),
        ({"plan": "child", "timeout": "5m"}, "unknown_field", ("steps", 0, "run", "timeout")),
        ({"plan": "child", "vars": {"a": "{{ steps.b.result }}"}}, "unknown_step", ("steps", 0, "run", "vars", "a")),
    ],
)
def test_a_child_run_that_cannot_be_read_is_a_fault(run: object, code: str, path: tuple[object, ...]) -> None:
    fault = only_fault(document({"id": "a", "run": run}))

    assert (fault.code, fault.path) == (code, path)


@pytest.mark.parametrize("written", ["{{ steps.m.text }}", "{{ steps.m.result }}", "{{ secrets.KEY }}"])
def test_vars_of_a_child_run_hold_no_text_of_a_model_and_no_secret(written: str) -> None:
    model = {"id": "m", "llm": {"model": "openai:x", "prompt": "p", "output_schema": {"type": "object"}}}
    run = {"id": "a", "run": {"plan": "child", "vars": {"deep": [{"er": written}]}}}

    [fault] = read_plan(document(model, run, secrets=["KEY"])).faults

    assert fault.code in ("llm_output_in_vars", "secret_in_vars")
    assert fault.path == ("steps", 1, "run", "vars", "deep", 0, "er")


def test_vars_are_held_against_the_plan_that_is_run() -> None:
    plan = read_plan(
        document(
            {"id": "a", "noop": {}}, vars={"who": {"required": True}, "n": 1, "at": {"one_of": ["a"], "default": "a"}}
        )
    ).plan
    assert plan is not None

    assert check_given(plan, {"who": "{{ vars.x }}", "n": "{{ vars.y }}"}, ("r",), "s") == ()
    faults = check_given(plan, {"n": "many", "at": "b", "z": "{{ vars.x }}"}, ("r",), "s")
    assert {(fault.code, fault.path) for fault in faults} == {
        ("bad_var", ("r", "vars", "n")),
        ("bad_var", ("r", "vars", "at")),
        ("missing_var", ("r",)),
        ("unknown_var", ("r", "vars", "z")),
    }


@pytest.mark.parametrize(
    ("standing", "asked", "scope"),
    [
        (PauseScope.MAINTENANCE, PauseScope.PARENT, PauseScope.PARENT),
        (PauseScope.PARENT, PauseScope.MAINTENANCE, PauseScope.PARENT),
        (PauseScope.PARENT, PauseScope.RUN, PauseScope.RUN),
        (PauseScope.RUN, PauseScope.PARENT, PauseScope.RUN),
    ],
)
def test_a_pause_that_is_more_the_runs_own_stands(standing: PauseScope, asked: PauseScope, scope: PauseScope) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)

    stands = paused_by(Pause("a", None, at, False, standing), Pause("b", None, at, True, asked))

    assert (stands.scope, stands.is_hard) == (scope, True)
