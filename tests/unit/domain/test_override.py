"""What a person may set a step to, by the plan alone."""

from __future__ import annotations

import json
from typing import Any

import pytest

from agentflow.domain.error import UsageError
from agentflow.domain.graph import Graph
from agentflow.domain.ids import StepKey
from agentflow.domain.override import MAX_RESULT_BYTES, Choose, Override, Skip, Succeed, ending_of, gates_before
from agentflow.domain.plan import Plan
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.state import StepState

REASON = Reason(ReasonCode.OVERRIDDEN, {"actor": "ana", "why": "it was done by hand"})
PLAN = Plan.model_validate(
    {
        "name": "tested",
        "steps": [
            {"id": "first", "action": {"type": "noop"}},
            {"id": "gate", "needs": ["first"], "action": {"type": "approval", "gate": {}}},
            {
                "id": "route",
                "needs": ["gate"],
                "action": {"type": "decision", "on": "vars.x", "cases": {"a": ["last"]}},
            },
            {
                "id": "each",
                "needs": ["first"],
                "action": {"type": "group"},
                "foreach": {
                    "items": [1, 2],
                    "steps": [
                        {"id": "ask", "action": {"type": "approval", "gate": {}}},
                        {"id": "act", "needs": ["ask"], "action": {"type": "noop"}},
                    ],
                },
            },
            {"id": "last", "needs": ["route", "each"], "action": {"type": "noop"}},
        ],
    }
)


@pytest.mark.parametrize(
    ("key", "how", "state"),
    [
        ("first", Skip(), StepState.SKIPPED),
        ("first", Succeed({"n": 1}), StepState.SUCCEEDED),
        ("route", Choose("a"), StepState.SUCCEEDED),
        ("route", Skip(), StepState.SKIPPED),
        ("each[1].act", Succeed(), StepState.SUCCEEDED),
    ],
)
def test_a_step_ends_as_it_is_set(key: str, how: Override, state: StepState) -> None:
    ends = ending_of(PLAN, StepKey(key), how, REASON)

    assert (ends.state, ends.reason) == (state, REASON)


@pytest.mark.parametrize(
    ("key", "how", "words"),
    [
        ("gate", Skip(), "gate"),
        ("gate", Succeed(), "approve"),
        ("each[0].ask", Succeed(), "gate"),
        ("route", Succeed(), "--choose"),
        ("route", Choose("b"), "no label 'b'"),
        ("first", Choose("a"), "no decision"),
        ("first", Succeed(float("nan")), "not JSON"),
        ("first", Succeed(object()), "not JSON"),
        ("first", Succeed("\0"), "NUL"),
        ("first", Succeed("\ud800"), "surrogate"),
        ("first", Succeed(10**5000), "too large"),
        ("first", Succeed(json.loads("[" * 500 + "]" * 500)), "deep"),
        ("first", Succeed("x" * MAX_RESULT_BYTES), "65,538"),
    ],
)
def test_what_a_step_cannot_be_set_to_is_said(key: str, how: Override, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        ending_of(PLAN, StepKey(key), how, REASON)


def test_a_result_is_not_quoted() -> None:
    secret: Any = {"said": "sentinel" * MAX_RESULT_BYTES}

    with pytest.raises(UsageError) as refused:
        ending_of(PLAN, StepKey("first"), Succeed(secret), REASON)

    assert "sentinel" not in f"{refused.value} {refused.value.details}"


@pytest.mark.parametrize(
    ("key", "gates"),
    [
        ("first", set()),
        ("route", {"gate"}),
        ("last", {"gate", "each"}),
        ("each[1]", set()),
        ("each[1].ask", set()),
        ("each[1].act", {"each[1].ask"}),
    ],
)
def test_the_gates_before_a_step_are_found(key: str, gates: set[str]) -> None:
    each = PLAN.step(StepKey("each")).foreach
    assert each is not None

    found = gates_before(PLAN, Graph(PLAN), Graph(each.steps) if "." in key else None, StepKey(key))

    assert set(found) == gates
