"""The seven roles of a workflow and their status rules, by what they come to as a plan."""

from __future__ import annotations

from typing import Any

import pytest

from agentflow.domain.action import DecisionAction
from agentflow.domain.decision import KEYS, RoutingError, chosen_label
from agentflow.domain.expression import evaluate, render
from agentflow.domain.plan import Plan, Step
from agentflow.domain.workflow import Kind, MergeMode, Node
from tests.workflows import compiled, node

LINE = {"in": "start", "a": "linear", "out": "exit"}


def _step(plan: Plan, key: str) -> Step:
    return next(step for step in plan.every_step if step.id == key)


def _op(key: str, role: str, **more: Any) -> Node:
    return node(key, role, operation="say", **more)


def _terms(plan: Plan, key: str) -> tuple[Any, ...]:
    step = _step(plan, key)
    return step.needs, step.when, step.on_failure


def _branches(mode: MergeMode, **more: Any) -> Plan:
    nodes = {
        "in": "start", "fan": "branch", "a": _op("a", "linear", **more), "b": "linear",
        "join": node("join", "merge", merge_mode=mode), "out": "exit",
    }  # fmt: skip
    return compiled(nodes, "in > fan, fan > a, fan > b, a > join, b > join, join > out")[0]


def _subtasks(mode: MergeMode) -> Plan:
    nodes = {
        "in": "start", "cut": _op("cut", "split"), "a": _op("a", "linear"),
        "b": "linear", "join": node("join", "merge", merge_mode=mode), "out": "exit",
    }  # fmt: skip
    return compiled(nodes, "in > cut, cut > a, cut > b, a > join, b > join, join > out")[0]


def test_start_is_the_step_that_waits_for_none_and_hands_on_the_request() -> None:
    plan, done = compiled(LINE, "in > a, a > out")

    assert _terms(plan, "in") == ((), "succeeded", "stop")
    assert _step(plan, "in").action.type == "noop"
    assert plan.vars["input"].required
    assert evaluate("vars.input", {"vars": {"input": [1]}}) == [1]
    assert list(done.nodes) == ["in", "a", "out"]


def test_start_is_the_one_that_is_asked_for_and_only_what_it_reaches_is_run() -> None:
    nodes = {**LINE, "late": "start", "b": "linear"}
    edges = "in > a, a > out, late > b, b > out"

    assert [step.id for step in compiled(nodes, edges)[0].steps] == ["in", "a", "out"]
    assert [step.id for step in compiled(nodes, edges, "late")[0].steps] == ["late", "b", "out"]


def test_linear_needs_the_one_before_it_and_passes_its_output_on() -> None:
    nodes = {"in": "start", "a": _op("a", "linear"), "b": "linear", "c": _op("c", "linear"),
             "out": "exit"}  # fmt: skip
    _, done = compiled(nodes, "in > a, a > b, b > c, c > out")

    written = next(step for step in done.document["steps"] if step["id"] == "c")["subprocess"]["stdin"]
    assert render(written, {"steps": {"a": {"stdout": '{"n": 1}'}}}) == '{"n": 1}'


def test_a_node_has_its_own_time_and_the_default_of_300_seconds() -> None:
    plan, _ = compiled(LINE, "in > a, a > out")

    assert _step(plan, "a").timeout_seconds == 300


def test_decision_is_a_step_with_a_switch_behind_it_that_takes_one_edge() -> None:
    nodes = {"in": "start", "d": "decision", "a": "linear", "b": "linear", "out": "exit"}
    plan, _ = compiled(nodes, "in > d, d > a: create, d > b, a > out, b > out")

    switch = _step(plan, "d-route")
    assert switch.needs == ("d",)
    assert isinstance(switch.action, DecisionAction)
    assert switch.action.cases == {"create": ("a",), "b": ("b",)}, "a label is the condition, else the target"
    assert _terms(plan, "out") == (("a", "b"), "any", "stop")


@pytest.mark.parametrize("key", KEYS)
def test_decision_takes_the_first_key_of_an_object_in_the_founding_order(key: str) -> None:
    later = KEYS[KEYS.index(key) + 1 :]

    assert chosen_label({key: "a", **dict.fromkeys(later, "b")}, {"a", "b"}) == "a"


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (None, "invalid_output_type"),
        ({}, "invalid_output_type"),
        (dict.fromkeys(KEYS), "invalid_output_type"),
        ({"decision": "a"}, "invalid_output_type"),
        ([], "invalid_output_type"),
        ("neither", "invalid_target_node"),
    ],
)
def test_decision_whose_output_names_no_edge_is_a_routing_error(value: object, code: str) -> None:
    with pytest.raises(RoutingError) as raised:
        chosen_label(value, {"a", "b"})

    assert raised.value.code == code


def test_decision_of_a_text_hands_it_on_as_an_object() -> None:
    nodes = {
        "in": "start", "d": node("d", "decision", kind=Kind.AGENT, agent_id="writer"),
        "a": _op("a", "linear"), "b": "linear", "out": "exit",
    }  # fmt: skip
    plan, done = compiled(nodes, "in > d, d > a, d > b, a > out, b > out")

    switch = _step(plan, "d-route").action
    assert isinstance(switch, DecisionAction)
    assert evaluate(switch.on, {"steps": {"d": {"text": "a"}}}) == "a"
    stdin = next(step for step in done.document["steps"] if step["id"] == "a")["subprocess"]["stdin"]
    assert render(stdin, {"steps": {"d": {"text": "a"}}}) == '{"decision": "a"}'


def test_branch_lets_every_edge_begin_and_its_clones_inherit_the_output() -> None:
    plan = _branches(MergeMode.FAIL_ON_ANY)

    assert _step(plan, "a").needs == _step(plan, "b").needs == ("fan",)


def test_split_is_a_foreach_for_each_edge_over_its_share_of_the_subtasks() -> None:
    plan = _subtasks(MergeMode.FAIL_ON_ANY)

    shares = []
    for key, body in (("cut-1", "a"), ("cut-2", "b")):
        terms = _step(plan, key).foreach
        assert terms is not None
        assert [step.id for step in terms.steps] == [body]
        assert isinstance(terms.items, str)
        shares.append(evaluate(terms.items, {"steps": {"cut": {"stdout": '{"subtask_inputs": [0, 1, 2, 3, 4]}'}}}))
    assert shares == [[0, 2, 4], [1, 3]], "round-robin"


@pytest.mark.parametrize(
    ("output", "label"),
    [("[1]", "ok"), ('{"subtask_inputs": [1]}', "ok"), ("[]", "empty_subtask_inputs"), ("{}", "invalid_split_output"),
     ('{"subtask_inputs": []}', "empty_subtask_inputs"), ('"text"', "invalid_split_output"),
     ("1", "invalid_split_output"), ('{"subtask_inputs": "text"}', "invalid_split_output")],
)  # fmt: skip
def test_split_output_is_a_list_that_is_not_empty_or_an_object_with_one(output: str, label: str) -> None:
    check = _step(_subtasks(MergeMode.FAIL_ON_ANY), "cut-check").action
    assert isinstance(check, DecisionAction)

    assert evaluate(check.on, {"steps": {"cut": {"stdout": output}}}) == label
    assert label == "ok" or label in check.fail


def test_split_in_a_split_is_a_foreach_in_a_foreach() -> None:
    nodes = {
        "in": "start", "outer": _op("outer", "split"),
        "inner": _op("inner", "split"), "a": "linear", "b": "linear", "c": "linear",
        "join": "merge", "out": "exit",
    }  # fmt: skip
    plan, _ = compiled(
        nodes,
        "in > outer, outer > inner, outer > c, inner > a, inner > b, a > join, b > join, c > join, join > out",
    )

    terms = _step(plan, "outer-1").foreach
    assert terms is not None
    assert [step.id for step in terms.steps] == ["inner", "inner-check", "inner-1", "inner-2"]
    assert _terms(plan, "join") == (("outer-1", "outer-2"), "taken", "stop")


def test_merge_waits_for_every_inbound_part_and_continues_along_its_edge() -> None:
    plan = _branches(MergeMode.FAIL_ON_ANY)

    assert _step(plan, "join").needs == ("a", "b")
    assert _step(plan, "out").needs == ("join",)


def test_merge_fail_on_any_fails_with_one_failed_part() -> None:
    plan = _branches(MergeMode.FAIL_ON_ANY)

    assert _terms(plan, "join") == (("a", "b"), "taken", "stop")
    assert _step(plan, "a").on_failure == "ignore", "the merge judges it, and the other clone goes on meanwhile"


def test_merge_ignore_failures_goes_on_with_the_parts_that_succeeded() -> None:
    plan = _branches(MergeMode.IGNORE_FAILURES)

    assert _terms(plan, "join")[1:] == ("any", "stop")
    assert _step(plan, "a").on_failure == "ignore"


def test_merge_partial_makes_the_run_partial_when_some_parts_fail_and_failed_when_all_do() -> None:
    plan = _branches(MergeMode.PARTIAL)

    assert _terms(plan, "join")[1:] == ("any", "stop")
    assert _step(plan, "a").on_failure == "continue"


@pytest.mark.parametrize(
    ("mode", "terms", "when"),
    [
        (MergeMode.FAIL_ON_ANY, ("fail_on_any", "ignore"), "taken"),
        (MergeMode.IGNORE_FAILURES, ("ignore_failures", "ignore"), "any"),
        (MergeMode.PARTIAL, ("partial", "continue"), "any"),
    ],
)
def test_merge_after_a_split_judges_the_subtasks_by_its_mode(
    mode: MergeMode, terms: tuple[str, str], when: str
) -> None:
    plan = _subtasks(mode)

    for key in ("cut-1", "cut-2"):
        step = _step(plan, key)
        assert step.foreach is not None
        assert (step.foreach.merge, step.on_failure) == terms
    assert _terms(plan, "join") == (("cut-1", "cut-2"), when, "stop")


def test_merge_after_a_decision_waits_for_the_branch_that_was_taken() -> None:
    nodes = {"in": "start", "d": "decision", "a": "linear", "join": "merge", "out": "exit"}
    plan, _ = compiled(nodes, "in > d, d > a: long, d > join: short, a > join, join > out")

    switch = _step(plan, "d-route").action
    assert isinstance(switch, DecisionAction)
    assert switch.cases == {"long": ("a",), "short": ("d-to-join",)}
    assert _step(plan, "join").needs == ("d-to-join", "a")


def test_merge_in_a_split_of_clones_joins_them_for_each_subtask() -> None:
    nodes = {
        "in": "start", "cut": _op("cut", "split"), "fan": "branch", "a": "linear", "b": "linear",
        "inner": "merge", "c": "linear", "join": "merge", "out": "exit",
    }  # fmt: skip
    plan, _ = compiled(
        nodes,
        "in > cut, cut > fan, cut > c, fan > a, fan > b, a > inner, b > inner, inner > join, c > join, join > out",
    )

    terms = _step(plan, "cut-1").foreach
    assert terms is not None
    assert [step.id for step in terms.steps] == ["fan", "a", "b", "inner"]
    assert _step(plan, "join").needs == ("cut-1", "cut-2")


def test_merge_in_a_split_after_a_decision_joins_the_subtasks() -> None:
    nodes = {
        "in": "start", "cut": _op("cut", "split"), "d": "decision", "a": "linear", "b": "linear",
        "join": "merge", "out": "exit",
    }  # fmt: skip
    plan, _ = compiled(nodes, "in > cut, cut > d, d > a, d > b, a > join, b > join, join > out")

    assert [step.id for step in plan.steps] == ["in", "cut", "cut-check", "cut-1", "join", "out"]
    assert _step(plan, "join").needs == ("cut-1",)


def test_merge_reads_the_parts_that_succeeded_with_their_outputs() -> None:
    nodes = {
        "in": "start", "fan": "branch", "a": _op("a", "linear"), "b": _op("b", "linear"),
        "join": _op("join", "merge", merge_mode=MergeMode.PARTIAL), "out": "exit",
    }  # fmt: skip
    _, done = compiled(nodes, "in > fan, fan > a, fan > b, a > join, b > join, join > out")

    written = next(step for step in done.document["steps"] if step["id"] == "join")["subprocess"]["stdin"]
    steps = {"a": {"state": "succeeded", "stdout": "[1]"}, "b": {"state": "failed"}}
    assert render(written, {"steps": steps}) == '[{"node_id": "a", "node_status": "completed", "output": [1]}]'


def test_merge_reads_each_subtask_of_a_split_as_a_part_of_its_own() -> None:
    nodes = {
        "in": "start", "cut": _op("cut", "split"), "a": _op("a", "linear"),
        "b": "linear", "join": _op("join", "merge"), "out": "exit",
    }  # fmt: skip
    _, done = compiled(nodes, "in > cut, cut > a, cut > b, a > join, b > join, join > out")

    written = next(step for step in done.document["steps"] if step["id"] == "join")["subprocess"]["stdin"]
    values = {"cut": {"stdout": "[0, 1, 2]"}, "cut-1": {"results": ['"x"', None]}}
    assert render(written, {"steps": values}) == (
        '[{"node_id": "a", "node_status": "completed", "output": "x"}, '
        '{"node_id": "a", "node_status": "failed", "output": null}, '
        '{"node_id": "b", "node_status": "completed", "output": 1}]'
    )


def test_exit_completes_what_has_not_failed() -> None:
    plan, _ = compiled(LINE, "in > a, a > out")

    assert _terms(plan, "out") == (("a",), "succeeded", "stop")
    assert _step(plan, "out").action.type == "noop"


def test_exit_with_always_fail_forces_the_failure() -> None:
    plan, _ = compiled({**LINE, "out": node("out", "exit", always_fails=True)}, "in > a, a > out")

    action = _step(plan, "out").action
    assert isinstance(action, DecisionAction)
    with pytest.raises(RoutingError) as raised:
        chosen_label(evaluate(action.on, {}), action.cases, action.default, action.fail)
    assert raised.value.code == "always_fail"
    assert _step(plan, "out").on_failure == "stop"


def test_exit_of_clones_that_no_merge_joins_completes_with_one_of_them() -> None:
    nodes = {"in": "start", "fan": "branch", "a": "linear", "b": "linear", "one": "exit", "two": "exit"}
    plan, _ = compiled(nodes, "in > fan, fan > a, fan > b, a > one, b > two")

    assert {_step(plan, key).on_failure for key in ("a", "b", "one", "two")} == {"ignore"}
    assert _terms(plan, "finish") == (("one", "two"), "any", "stop")


def test_exit_that_clones_share_is_reached_once_one_of_them_succeeded() -> None:
    nodes = {"in": "start", "fan": "branch", "a": "linear", "b": "linear", "out": "exit"}
    plan, _ = compiled(nodes, "in > fan, fan > a, fan > b, a > out, b > out")

    assert _terms(plan, "out") == (("a", "b"), "any", "stop")


def test_exit_of_subtasks_that_no_merge_joins_is_partial_when_some_fail_and_failed_when_all_do() -> None:
    nodes = {"in": "start", "cut": _op("cut", "split"), "a": "linear", "out": "exit"}
    plan, done = compiled(nodes, "in > cut, cut > a, a > out")

    step = _step(plan, "cut-1")
    assert step.foreach is not None
    assert [inner.id for inner in step.foreach.steps] == ["a", "out"]
    assert (step.foreach.merge, step.on_failure) == ("partial", "continue")
    assert _terms(plan, "finish") == (("cut-1",), "any", "stop")
    assert done.nodes["out"] == "out"


def test_exit_that_is_reached_from_two_subtask_edges_is_a_step_in_each_body() -> None:
    nodes = {"in": "start", "cut": _op("cut", "split"), "a": "linear", "b": "linear", "out": "exit"}
    plan, done = compiled(nodes, "in > cut, cut > a, cut > b, a > out, b > out")

    assert {done.nodes["out"], done.nodes["out-2"]} == {"out"}
    assert plan.foreach_around[_step(plan, "out-2").id] == "cut-2"


def test_failure_of_a_node_ends_the_task() -> None:
    plan, _ = compiled(LINE, "in > a, a > out")

    assert _step(plan, "a").on_failure == "stop"


def test_continue_on_failure_records_the_failure_and_the_route_goes_on_with_the_old_output() -> None:
    nodes = {
        "in": "start", "a": _op("a", "linear"), "b": _op("b", "linear", goes_on=True),
        "c": _op("c", "linear"), "out": "exit",
    }  # fmt: skip
    plan, done = compiled(nodes, "in > a, a > b, b > c, c > out")

    assert _step(plan, "b").on_failure == "ignore"
    when = _step(plan, "c").when
    assert [evaluate(when, {"steps": {"b": {"state": state}}}) for state in ("succeeded", "failed", "skipped")] == [
        True, True, False,
    ]  # fmt: skip
    written = next(step for step in done.document["steps"] if step["id"] == "c")["subprocess"]["stdin"]
    assert render(written, {"steps": {"a": {"stdout": "1"}, "b": {"state": "failed"}}}) == "1"
    assert render(written, {"steps": {"a": {"stdout": "1"}, "b": {"state": "succeeded", "stdout": "2"}}}) == "2"


def test_continue_on_failure_before_an_exit_of_several_routes_lets_it_complete() -> None:
    nodes = {
        "in": "start", "d": "decision", "a": _op("a", "linear", goes_on=True), "b": "linear", "out": "exit",
    }  # fmt: skip
    plan, _ = compiled(nodes, "in > d, d > a, d > b, a > out, b > out")

    assert _step(plan, "out").needs == ("a-over", "b")
    assert evaluate(_step(plan, "a-over").when, {"steps": {"a": {"state": "failed"}}}) is True


def test_the_same_workflow_is_the_same_plan() -> None:
    assert _subtasks(MergeMode.PARTIAL).fingerprint == _subtasks(MergeMode.PARTIAL).fingerprint


def test_a_long_line_is_no_special_case() -> None:
    nodes = {"in": "start", **{f"n{number}": "linear" for number in range(2000)}, "out": "exit"}
    edges = ["in > n0", *(f"n{number} > n{number + 1}" for number in range(1999)), "n1999 > out"]

    assert len(compiled(nodes, "\n".join(edges))[0].steps) == 2002
