"""The written form of a switch, with its faults."""

from __future__ import annotations

from typing import Any

import pytest

from agentflow.domain.action import DecisionAction
from agentflow.domain.plan_document import PlanReading, read_plan


def _read(**switch: Any) -> PlanReading:
    steps = [
        {"id": "route", "needs": [], "switch": {"on": "vars.kind", "cases": {"a": "x"}, **switch}},
        {"id": "x", "needs": ["route"], "noop": {}},
        {"id": "y", "needs": [], "noop": {}},
    ]
    head = {"agentflow": 1, "name": "routed", "vars": {"kind": "a"}, "secrets": ["TOKEN"]}
    return read_plan({**head, "steps": steps})


def test_a_switch_names_the_steps_of_each_case() -> None:
    plan = _read(cases={"a": ["x"], "b": []}, default="b", fail=["c"]).plan

    assert plan is not None
    assert plan.steps[0].action == DecisionAction(
        on="vars.kind", cases={"a": ("x",), "b": ()}, default="b", fail=("c",)
    )


@pytest.mark.parametrize(
    ("switch", "code"),
    [
        ({"cases": {}}, "insufficient_edges"),
        ({"cases": {"a": "z"}}, "invalid_target_node"),
        ({"cases": {"a": "y"}}, "invalid_target_node"),
        ({"default": "b"}, "unknown_label"),
        ({"fail": ["a"]}, "bad_value"),
        ({"on": "vars.missing"}, "unknown_var"),
        ({"on": "secrets.TOKEN"}, "secret_in_switch"),
        ({"on": "1 +"}, "template_syntax"),
        ({"otherwise": "a"}, "unknown_field"),
    ],
)
def test_a_fault_of_a_switch_is_found(switch: dict[str, Any], code: str) -> None:
    assert [fault.code for fault in _read(**switch).faults] == [code]
