"""What two plans differ in, by the names that an author writes."""

from __future__ import annotations

from typing import Any

import pytest

from agentflow.domain.plan import Plan
from agentflow.domain.plan_diff import PlanDiff, diff_plans
from agentflow.domain.plan_document import read_plan

BASE: dict[str, Any] = {
    "agentflow": 1,
    "name": "tested",
    "vars": {"x": 1},
    "steps": [
        {"id": "a", "needs": [], "subprocess": {"command": ["x"], "stdin": "one"}, "timeout": "5s"},
        {"id": "ask", "needs": ["a"], "llm": {"model": "openai:m", "prompt": "one"}},
        {"id": "call", "needs": ["a"], "http": {"url": "https://example.com", "method": "POST", "json": {"n": 1}}},
    ],
}


def _plan(document: dict[str, Any]) -> Plan:
    reading = read_plan(document, available_actions=("http", "llm", "noop", "subprocess"))
    assert reading.plan is not None, reading.faults
    return reading.plan


def _with(step: int, **fields: Any) -> dict[str, Any]:
    steps = [dict(each) for each in BASE["steps"]]
    steps[step] = {**steps[step], **fields}
    return {**BASE, "steps": steps}


def test_a_plan_differs_in_nothing_from_itself() -> None:
    assert diff_plans(_plan(BASE), _plan(BASE)) == PlanDiff()


@pytest.mark.parametrize(
    ("edited", "step", "names"),
    [
        (_with(0, timeout="6s"), "a", ("timeout",)),
        (_with(0, retry=2, on_failure="continue"), "a", ("retry", "on_failure")),
        (_with(0, subprocess={"command": ["y"], "stdin": "two"}), "a", ("subprocess.command", "subprocess.stdin")),
        (_with(1, llm={"model": "openai:m", "prompt": "two"}), "ask", ("llm.prompt",)),
        (_with(1, needs=[]), "ask", ("needs",)),
        (_with(2, http={"url": "https://example.com", "method": "POST", "json": {"n": 2}}), "call", ("http.json",)),
    ],
)
def test_a_changed_step_is_told_by_what_an_author_changed(edited: dict[str, Any], step: str, names: Any) -> None:
    assert diff_plans(_plan(BASE), _plan(edited)) == PlanDiff(changed={step: names})  # type: ignore[dict-item]


def test_another_action_is_one_change() -> None:
    steps = [*BASE["steps"][:2], {"id": "call", "needs": ["a"], "noop": {}}]

    assert diff_plans(_plan(BASE), _plan({**BASE, "steps": steps})).changed == {"call": ("action",)}


def test_steps_and_fields_of_the_plan_that_came_or_went_are_told() -> None:
    steps = [*BASE["steps"][:1], {"id": "new", "needs": ["a"], "noop": {}}]

    diff = diff_plans(_plan(BASE), _plan({**BASE, "vars": {"x": 2}, "budget": {"steps": 1}, "steps": steps}))

    assert diff.as_json() == {
        "fields": ["budget", "vars"],
        "added": ["new"],
        "removed": ["ask", "call"],
        "changed": {},
    }


def test_that_an_answer_is_needed_is_no_change_that_somebody_wrote() -> None:
    reader = {"id": "use", "needs": ["ask"], "subprocess": {"command": ["cat"], "stdin": "{{ steps.ask.text }}"}}

    assert diff_plans(_plan(BASE), _plan({**BASE, "steps": [*BASE["steps"], reader]})).changed == {}
