"""The Mermaid picture of a plan."""

from __future__ import annotations

from typing import Any

from agentflow.domain.plan_document import read_plan
from agentflow.domain.plan_picture import plan_to_mermaid


def picture(*steps: dict[str, Any]) -> str:
    reading = read_plan(
        {"agentflow": 1, "name": "p", "steps": list(steps)}, available_actions=("noop", "subprocess", "llm")
    )
    assert reading.plan is not None, reading.faults
    return plan_to_mermaid(reading.plan)


def test_steps_are_nodes_and_needs_are_arrows() -> None:
    run = {"command": ["x"]}
    assert picture(
        {"id": "collect", "subprocess": run},
        {"id": "end", "noop": {}, "needs": ["collect"]},
        {"id": "ask", "llm": {"model": "a:b", "prompt": "p"}, "needs": ["collect", "end"], "when": "always"},
    ) == (
        "flowchart TD\n"
        '    s0["collect<br/>subprocess"]\n'
        '    s1(("end"))\n'
        '    s2(["ask<br/>llm"])\n'
        "    s0 --> s1\n"
        '    s0 -->|"always"| s2\n'
        '    s1 -->|"always"| s2\n'
    )


def test_what_mermaid_would_read_as_its_own_is_escaped() -> None:
    text = picture({"id": "a", "noop": {}}, {"id": "b", "noop": {}, "when": 'steps.a.state == "x|y" and 1 < 2'})
    assert text.endswith('    s0 -->|"steps.a.state == #quot;x#124;y#quot; and 1 #lt; 2"| s1\n')


def test_a_switch_names_on_its_arrows_what_takes_each_step() -> None:
    assert picture(
        {"id": "route", "needs": [], "switch": {"on": "'a'", "cases": {"a": ["x"], "b": ["x", "y"]}}},
        {"id": "x", "noop": {}, "needs": ["route"]},
        {"id": "y", "noop": {}, "needs": ["route"], "when": "always"},
    ) == (
        "flowchart TD\n"
        '    s0{"route<br/>switch"}\n'
        '    s1(("x"))\n'
        '    s2(("y"))\n'
        '    s0 -->|"a, b"| s1\n'
        '    s0 -->|"b, always"| s2\n'
    )


def test_a_foreach_is_a_box_around_its_body() -> None:
    body = [{"id": "x", "noop": {}}, {"id": "y", "noop": {}, "needs": ["x"]}]
    assert picture(
        {"id": "each", "foreach": [1], "steps": body},
        {"id": "one", "foreach": [1], "noop": {}, "needs": ["each"]},
    ) == (
        "flowchart TD\n"
        '    subgraph s0["each<br/>foreach"]\n'
        '        s1(("x"))\n'
        '        s2(("y"))\n'
        "    end\n"
        '    s3(("one<br/>foreach noop"))\n'
        "    s1 --> s2\n"
        "    s0 --> s3\n"
    )
