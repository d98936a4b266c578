"""The gate of a strict run stands before everything, and the plan behind it is as it was."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.domain.action import ApprovalAction
from agentflow.domain.graph import Graph
from agentflow.domain.mode import APPROVE_EXECUTION, Mode, gate_faults, gated
from agentflow.domain.plan import MAX_STEPS, Plan


def _plan(*needs: tuple[int, ...]) -> Plan:
    steps = [
        {"id": f"s{number}", "needs": [f"s{need}" for need in wanted], "action": {"type": "noop"}}
        for number, wanted in enumerate(needs)
    ]
    return Plan.model_validate({"name": "tested", "steps": steps})


@st.composite
def _graphs(draw: st.DrawFn) -> Plan:
    count = draw(st.integers(1, 12))
    return _plan(*(tuple(draw(st.sets(st.integers(0, number - 1)))) if number else () for number in range(count)))


@given(_graphs(), st.booleans())
def test_everything_waits_for_the_gate_and_nothing_else_changes(plan: Plan, allows_self: bool) -> None:
    strict = gated(plan, allows_self=allows_self)

    graph = Graph(strict)
    assert graph.roots == (APPROVE_EXECUTION,)
    assert all(graph.is_ancestor(APPROVE_EXECUTION, of=step.id) for step in plan.steps)
    without = [
        step.model_copy(update={"needs": tuple(need for need in step.needs if need != APPROVE_EXECUTION)})
        for step in strict.steps[1:]
    ]
    assert without == list(plan.steps)
    gate = strict.steps[0].action
    assert isinstance(gate, ApprovalAction)
    assert gate.gate.allows_self == allows_self


@given(_graphs())
def test_the_gated_plan_has_a_fingerprint_of_its_own_and_always_the_same(plan: Plan) -> None:
    before = plan.fingerprint

    first, second = gated(plan, allows_self=False), gated(plan, allows_self=False)

    assert first.fingerprint == second.fingerprint != before == plan.fingerprint
    assert Plan.from_stored(first.canonical_json()).fingerprint == first.fingerprint


def test_a_plan_that_leaves_no_place_for_the_gate_is_at_fault() -> None:
    taken = Plan.model_validate({"name": "x", "steps": [{"id": APPROVE_EXECUTION, "action": {"type": "noop"}}]})

    assert [(fault.code, fault.step) for fault in gate_faults(taken)] == [("reserved_id", APPROVE_EXECUTION)]
    assert [fault.code for fault in gate_faults(_plan(*[()] * MAX_STEPS))] == ["too_many_steps"]
    assert gate_faults(_plan(*[()] * (MAX_STEPS - 1))) == ()


@pytest.mark.parametrize(
    ("written", "mode"), [("dry_run", Mode.DRY_RUN), ("dry-run", Mode.DRY_RUN), ("strict", "strict")]
)
def test_modes_are_read_by_their_names(written: str, mode: Mode) -> None:
    assert Mode(written) == mode
