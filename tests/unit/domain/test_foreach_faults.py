"""What is wrong with a foreach, its body and what refers to them; each fault by its name."""

from __future__ import annotations

from typing import Any

import pytest

from agentflow.domain.child import MAX_DEPTH
from agentflow.domain.plan_document import PlanReading, read_plan
from tests.factories import command_step, document, noop_step


def _read(*steps: dict[str, Any], **fields: Any) -> PlanReading:
    return read_plan(document(steps, **fields), available_actions=("subprocess", "llm", "http", "noop"))


def _codes(*steps: dict[str, Any], **fields: Any) -> list[str]:
    return [fault.code for fault in _read(*steps, **fields).faults]


def _llm(key: str, prompt: str = "Say", **fields: Any) -> dict[str, Any]:
    wanted = {"model": "a:b", "prompt": prompt, "output_schema": {"type": "array"}}
    return {"id": key, "needs": fields.pop("needs", []), "llm": wanted, **fields}


def _each(key: str, items: Any, *body: dict[str, Any], needs: tuple[str, ...] = (), **action: Any) -> dict[str, Any]:
    inner = {"steps": list(body)} if body else action or {"noop": {}}
    return {"id": key, "needs": list(needs), "foreach": items, **inner}


def test_the_items_of_a_foreach_exist_only_inside_of_it() -> None:
    assert _codes(command_step("a", "echo", "{{ item }}")) == ["outside_of_foreach"]
    assert _codes(command_step("a", "echo", "{{ loops.b.index }}")) == ["outside_of_foreach"]
    assert (
        _codes(_each("a", [1], subprocess={"command": ["echo", "{{ item }}", "{{ index }}", "{{ loops.a.item }}"]}))
        == []
    )


def test_what_a_foreach_asks_before_it_has_its_items_cannot_read_them() -> None:
    faults = _read(_each("a", "item.more")).faults

    assert [fault.code for fault in faults] == ["outside_of_foreach"]
    assert "before it has its items" in faults[0].message
    assert _codes(noop_step("b"), {**_each("a", [1], needs=("b",)), "when": "index == 0"}) == ["outside_of_foreach"]


def test_a_nested_foreach_reads_the_items_around_it() -> None:
    inner = _each(
        "inner", "item.pages", command_step("work", "echo", "{{ loops.outer.item.name }}-{{ loops.inner.item }}")
    )

    assert _codes(_each("outer", [{"name": "x", "pages": [1]}], inner)) == []
    assert _codes(_each("outer", [1], inner), command_step("b", "echo", "{{ loops.inner.item }}", needs=["outer"])) == [
        "outside_of_foreach"
    ]


def test_of_a_loop_there_is_only_the_item_and_the_index() -> None:
    assert _codes(_each("a", [1], subprocess={"command": ["echo", "{{ loops.a.name }}"]})) == ["unknown_attribute"]


def test_outside_of_a_body_only_the_foreach_is_seen() -> None:
    each = _each("each", [1], command_step("work", "echo"))
    faults = _read(each, command_step("after", "cat", needs=["each"], stdin="{{ steps.work.stdout }}")).faults

    assert [fault.code for fault in faults] == ["inside_of_foreach"]
    assert "steps.each.results" in faults[0].message
    ok = "{{ steps.each.results }} {{ steps.each.count }} {{ steps.each.failed }} {{ steps.each.state }}"
    assert _codes(each, command_step("after", "cat", needs=["each"], stdin=ok)) == []
    assert _codes(each, command_step("after", "cat", needs=["each"], stdin="{{ steps.each.stdout }}")) == [
        "unknown_attribute"
    ]


def test_inside_of_a_body_its_siblings_and_what_comes_before_the_foreach_are_seen() -> None:
    first = command_step("first", "echo")
    body = [
        command_step("a", "echo"),
        command_step("b", "cat", needs=["a"], stdin="{{ steps.a.stdout }}{{ steps.first.stdout }}"),
    ]

    assert _codes(first, _each("each", [1], *body, needs=("first",))) == []
    assert _codes(first, _each("each", [1], *body)) == ["not_an_ancestor"]
    own = command_step("c", "cat", stdin="{{ steps.each.results }}")
    assert _codes(_each("each", [1], own)) == ["not_an_ancestor"]


def test_a_step_of_another_foreach_is_not_seen_from_inside_of_one() -> None:
    one = _each("one", [1], command_step("a", "echo"))

    assert _codes(one, _each("two", [1], command_step("b", "cat", stdin="{{ steps.a.stdout }}"), needs=("one",))) == [
        "inside_of_foreach"
    ]


@pytest.mark.parametrize("place", ["command", "env", "cwd"])
def test_items_that_a_model_wrote_stand_in_no_command(place: str) -> None:
    action: dict[str, Any] = {"command": ["echo"]}
    action[place] = {"command": ["echo", "{{ item }}"], "env": {"X": "{{ item }}"}, "cwd": "{{ item }}"}[place]

    assert _codes(_llm("ask"), _each("each", "steps.ask.result", needs=("ask",), subprocess=action)) == [
        "llm_output_in_command"
    ]


def test_items_that_a_model_wrote_stay_its_text_through_further_foreachs() -> None:
    deep = _each("inner", "item.pages", command_step("work", "echo", "{{ item }}"))
    assert _codes(_llm("ask"), _each("outer", "steps.ask.result", deep, needs=("ask",))) == ["llm_output_in_command"]

    asks = _each("asks", [1], **{key: value for key, value in _llm("x").items() if key == "llm"})
    then = _each("then", "steps.asks.results", needs=("asks",), http={"url": "http://x/{{ item }}"})
    assert _codes(asks, then) == ["llm_output_in_address"]
    last = command_step("last", "echo", "{{ steps.asks.results }}", needs=["asks"])
    assert _codes(asks, last) == ["llm_output_in_command"]
    numbers = command_step("last", "echo", "{{ steps.asks.count }}", needs=["asks"])
    assert _codes(asks, numbers) == []


def test_the_end_of_a_body_says_whose_results_they_are() -> None:
    body = [command_step("a", "echo"), {**_llm("b"), "needs": ["a"]}]
    last = command_step("last", "echo", "{{ steps.each.results }}", needs=["each"])

    assert _codes(_each("each", [1], *body), last) == ["llm_output_in_command"]
    assert _codes(_each("each", [1], *body, command_step("c", "echo", needs=["b"])), last) == []


def test_the_output_of_a_step_stands_in_no_shell_command_as_an_item_either() -> None:
    action = {"command": "echo {{ item }}", "shell": True}

    assert _codes(command_step("a", "x"), _each("b", "steps.a.result", needs=("a",), subprocess=action)) == [
        "step_output_in_shell"
    ]
    assert _codes(_each("b", [1], subprocess=action)) == []


def test_answers_that_only_a_list_or_the_results_read_are_kept_for_the_run() -> None:
    ask = {**_llm("inner"), "needs": []}
    plan = _read(
        _llm("ask"),
        _each("each", "steps.ask.result", ask, needs=("ask",)),
        command_step("last", "cat", needs=["each"], stdin="{{ steps.each.results }}"),
    ).plan

    assert plan is not None
    assert [plan.step(key).action.is_answer_needed for key in ("ask", "inner")] == [True, True]  # type: ignore[arg-type, union-attr]  # plain ids, and both are llm steps


def test_secrets_are_no_list() -> None:
    assert _codes(_each("a", "secrets.X"), secrets=["X"]) == ["secret_in_items"]


def test_a_switch_is_not_done_for_each_item() -> None:
    switch = {"on": "item", "cases": {"a": ["x"]}}

    assert _codes(_each("each", [1], switch=switch), noop_step("x", needs=["each"])) == ["bad_value"]


def test_foreachs_do_not_nest_without_end() -> None:
    step = noop_step("leaf")
    for level in range(MAX_DEPTH):
        step = _each(f"level{level}", [1], step)
    assert _codes(step) == []
    assert _codes(_each("one_more", [1], step)) == ["too_deep"]
