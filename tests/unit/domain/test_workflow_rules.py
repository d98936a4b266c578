"""The rules of a workflow's graph, each with its fault."""

from __future__ import annotations

import pytest

from agentflow.domain.workflow import Kind, Node
from tests.workflows import faults_of, node, workflow

LINE = {"in": "start", "a": "linear", "out": "exit"}
SOUND = "in > a, a > out"


def _codes(nodes: dict[str, str | Node], edges: str) -> list[tuple[str, str | None]]:
    return [(fault.code, fault.step) for fault in faults_of(workflow(nodes, edges))]


def test_a_sound_workflow_has_no_fault() -> None:
    assert _codes({**LINE}, SOUND) == []


@pytest.mark.parametrize(
    ("role", "edges", "code"),
    [
        ("start", "in > a, a > x, x > a, a > out", "too_many_edges"),
        ("linear", "in > x, x > out, x > more, more > out", "too_many_edges"),
        ("decision", "in > x, x > out", "insufficient_edges"),
        ("branch", "in > x, x > out", "insufficient_edges"),
        ("split", "in > x", "no_outbound_edges"),
        ("merge", "in > x, x > out", "insufficient_edges"),
        ("merge", "in > x, more > x", "no_outbound_edges"),
        ("exit", "in > x, x > out", "too_many_edges"),
    ],
)
def test_each_role_has_its_edges(role: str, edges: str, code: str) -> None:
    nodes: dict[str, str | Node] = {"in": "start", "x": role, "out": "exit"}
    if role == "start":
        nodes["a"] = "linear"
    if "more" in edges:
        nodes["more"] = "linear"

    assert (code, "x") in _codes(nodes, edges)


def test_a_branch_and_a_split_have_one_inbound_edge() -> None:
    nodes: dict[str, str | Node] = {"in": "start", "d": "decision", "x": "split", "out": "exit"}

    assert ("too_many_edges", "x") in _codes(nodes, "in > d, d > x: a, d > x: b, x > out")


def test_a_cycle_is_named() -> None:
    nodes: dict[str, str | Node] = {"in": "start", "a": "merge", "b": "decision", "out": "exit"}
    (fault,) = faults_of(workflow(nodes, "in > a, a > b, b > a, b > out"))

    assert (fault.code, fault.message) == ("cycle", "Cycle detected: a <- b <- a")


def test_what_no_start_reaches_is_named() -> None:
    nodes: dict[str, str | Node] = {**LINE, "lost": "linear"}
    found = faults_of(workflow(nodes, f"{SOUND}, lost > out"))

    assert "Unreachable: no start leads to lost" in [fault.message for fault in found]


def test_what_only_another_start_reaches_is_reachable() -> None:
    assert _codes({**LINE, "late": "start", "b": "linear"}, f"{SOUND}, late > b, b > out") == []


def test_every_start_reaches_an_exit() -> None:
    nodes: dict[str, str | Node] = {**LINE, "late": "start", "end": "linear"}

    assert ("no_exit", "late") in _codes(nodes, f"{SOUND}, late > end")


def test_there_is_exactly_one_default_start() -> None:
    two: dict[str, str | Node] = {
        "in": node("in", "start", is_default_start=True), "late": node("late", "start", is_default_start=True),
        "a": "linear", "b": "linear", "out": "exit",
    }  # fmt: skip

    assert _codes(two, f"{SOUND}, late > b, b > out") == [("default_start", None)]
    assert ("bad_value", "a") in _codes({**LINE, "a": node("a", "linear", is_default_start=True)}, SOUND)


def test_there_is_an_exit() -> None:
    assert ("no_exit", None) in _codes({"in": "start", "a": "linear"}, "in > a")


def test_start_and_exit_are_deterministic() -> None:
    agents = {
        key: node(key, role, kind=Kind.AGENT, agent_id="writer") for key, role in (("in", "start"), ("out", "exit"))
    }

    assert _codes({"in": agents["in"], "a": "linear", "out": agents["out"]}, SOUND)[:2] == [
        ("invalid_node_role", "in"),
        ("invalid_node_role", "out"),
    ]


def test_an_exit_performs_nothing() -> None:
    assert _codes({**LINE, "out": node("out", "exit", operation="say")}, SOUND) == [("bad_value", "out")]


def test_an_agent_is_named_and_known() -> None:
    assert _codes({**LINE, "a": node("a", "linear", kind=Kind.AGENT)}, SOUND) == [("missing_field", "a")]
    unknown = node("a", "linear", kind=Kind.AGENT, agent_id="writr")
    (fault,) = faults_of(workflow({**LINE, "a": unknown}, SOUND))
    assert fault.code == "unknown_agent"
    assert "writer" in fault.message


def test_an_operation_is_known_and_for_deterministic_nodes() -> None:
    assert _codes({**LINE, "a": node("a", "linear", operation="sing")}, SOUND) == [("unknown_tool", "a")]
    both = node("a", "linear", kind=Kind.AGENT, agent_id="writer", operation="say")
    assert _codes({**LINE, "a": both}, SOUND) == [("bad_value", "a")]


def test_always_fail_is_for_exits_and_continue_on_failure_for_all_others() -> None:
    wrong: dict[str, str | Node] = {
        "in": "start", "a": node("a", "linear", always_fails=True), "out": node("out", "exit", goes_on=True),
    }  # fmt: skip

    assert _codes(wrong, SOUND) == [("bad_value", "a"), ("bad_value", "out")]


def test_edges_lead_from_and_to_known_nodes() -> None:
    assert _codes({**LINE}, f"{SOUND}, a > nowhere, nobody > a") == [
        ("invalid_target_node", "a"),
        ("invalid_target_node", "nobody"),
    ]


def test_a_decision_tells_its_edges_apart() -> None:
    nodes: dict[str, str | Node] = {"in": "start", "d": "decision", "a": "linear", "b": "linear", "out": "exit"}

    assert _codes(nodes, "in > d, d > a: x, d > b: x, a > out, b > out") == [("duplicate_label", "d")]


def test_clones_do_not_take_one_way_twice() -> None:
    nodes: dict[str, str | Node] = {"in": "start", "b": "branch", "out": "exit"}

    assert _codes(nodes, "in > b, b > out: x, b > out: y") == [("duplicate_edge", "b")]
