"""The written form of a python step."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentflow.domain.action import PythonAction
from agentflow.domain.plan_document import PlanReading, read_plan
from agentflow.domain.python_document import is_call
from tests.factories import command_step, document

ACTIONS = ("subprocess", "llm", "python")


def _read(python: Any, *before: dict[str, Any], **fields: Any) -> PlanReading:
    step = {"id": "p", "needs": [each["id"] for each in before], "python": python}
    return read_plan(document([*before, step], **fields), available_actions=ACTIONS)


def _codes(reading: PlanReading) -> list[str]:
    assert reading.plan is None
    return [fault.code for fault in reading.faults]


def test_a_call_is_read_and_its_arguments_are_content() -> None:
    reading = _read({"call": "shop.prices:update", "args": {"day": "{{ vars.day }}", "limit": 3}}, vars={"day": "x"})

    assert reading.plan is not None, reading.faults
    action = reading.plan.steps[0].action
    assert isinstance(action, PythonAction)
    assert action.args is not None
    assert json.loads(reading.content[action.args.sha256]) == {"day": "{{ vars.day }}", "limit": 3}
    assert b"vars.day" not in reading.plan.canonical_json()


def test_equal_arguments_give_equal_plans() -> None:
    one, other = (_read({"call": "a:b", "args": args}).plan for args in ({"x": 1, "y": 2}, {"y": 2, "x": 1}))

    assert one is not None
    assert other is not None
    assert one.fingerprint == other.fingerprint


@pytest.mark.parametrize("call", ["update", "shop.prices.update", "a:b.c", "a b:c", "a:*", "{{ vars.x }}:f", "a:b()"])
def test_what_names_no_function_is_a_fault(call: str) -> None:
    assert _codes(_read({"call": call})) == ["bad_value"]
    assert not is_call(call)


@pytest.mark.parametrize("args", [{"a b": 1}, {"1": 1}, {"": 1}])
def test_arguments_have_names(args: Any) -> None:
    assert _codes(_read({"call": "a:b", "args": args})) == ["bad_value"]


def test_arguments_that_are_json_are_named_in_one_order() -> None:
    args = {"x": "{{ run.id }}", "y": "[1]", "n": 1}
    plans = [_read({"call": "a:b", "args": args, "json_args": names}).plan for names in (["x", "y"], ["y", "x", "y"])]

    assert all(plan is not None for plan in plans)
    assert [plan.steps[0].action.json_args for plan in plans if plan] == [("x", "y"), ("x", "y")]


@pytest.mark.parametrize("names", [["n"], ["z"], [1], "x", [["x"]]])
def test_only_texts_can_be_json(names: Any) -> None:
    assert _codes(_read({"call": "a:b", "args": {"x": "1", "n": 1}, "json_args": names})) in (
        ["bad_value"], ["wrong_type"],
    )  # fmt: skip
    assert _codes(_read({"call": "a:b", "json_args": ["x"]})) == ["bad_value"]


def test_all_faults_are_told_at_once() -> None:
    reading = _read({"call": "x", "args": ["a"], "arg": 1})

    assert sorted(_codes(reading)) == ["bad_value", "unknown_field", "wrong_type"]


def test_a_models_text_may_stand_in_the_arguments_for_it_is_data() -> None:
    ask = {"id": "ask", "llm": {"model": "a:b", "prompt": "p"}}

    assert _read({"call": "a:b", "args": {"text": "{{ steps.ask.text }}"}}, ask).plan is not None


def test_it_leaves_what_a_command_leaves_and_takes_files() -> None:
    step = {"id": "p", "needs": ["make"], "python": {"call": "a:b"}, "inputs": ["make/report.csv"]}
    reader = command_step("r", "cat", "{{ steps.p.stdout_path }}", "{{ steps.p.result.n }}", needs=["p"])
    reading = read_plan(document([command_step("make", "true"), step, reader]), available_actions=ACTIONS)

    assert reading.plan is not None, reading.faults
