"""What a fork takes over: what succeeded, means the same, and follows from nothing that runs again."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agentflow.domain.graph import Graph
from agentflow.domain.ids import StepKey
from agentflow.domain.plan import Plan
from agentflow.domain.plan_document import read_plan
from agentflow.domain.reuse import changed_vars, is_same, reused_steps, with_dependents

ACTIONS = ("llm", "noop", "subprocess")


def _plan(*steps: dict[str, Any]) -> Plan:
    document = {"agentflow": 1, "name": "tested", "steps": list(steps)}
    reading = read_plan(document, available_actions=ACTIONS)
    assert reading.plan is not None, reading.faults
    return reading.plan


def _noop(key: str, *needs: str, **fields: Any) -> dict[str, Any]:
    return {"id": key, "needs": list(needs), "noop": {}, **fields}


def _reused(old: Plan, new: Plan, succeeded: str, *again: str) -> set[str]:
    return set(reused_steps(old, new, Graph(new), {StepKey(key) for key in succeeded}, map(StepKey, again)))


DIAMOND = (_noop("a"), _noop("b", "a"), _noop("c", "a"), _noop("d", "b", "c"))


def test_the_step_and_what_follows_from_it_run_again() -> None:
    plan = _plan(*DIAMOND)

    assert _reused(plan, plan, "abcd", "b") == {"a", "c"}
    assert _reused(plan, plan, "abcd", "a") == set()


def test_only_what_succeeded_is_taken_over_also_behind_what_did_not() -> None:
    plan = _plan(*DIAMOND)

    assert _reused(plan, plan, "bc", "d") == {"b", "c"}


def test_a_step_that_is_written_otherwise_runs_again_with_what_follows_from_it() -> None:
    old = _plan(*DIAMOND)

    assert _reused(old, _plan(*DIAMOND[:2], _noop("c", "a", timeout="9s"), DIAMOND[3]), "abcd", "d") == {"a", "b"}
    assert _reused(old, _plan(*DIAMOND[:2], _noop("c", "b"), DIAMOND[3]), "abcd", "d") == {"a", "b"}, "other needs"


def test_steps_that_are_new_or_gone_are_not_taken_over() -> None:
    old = _plan(*DIAMOND)
    new = _plan(DIAMOND[0], _noop("x", "a"), _noop("b", "a"), _noop("d", "b", "x"))

    assert _reused(old, new, "abcd", "d") == {"a", "b"}


def test_an_answer_that_is_needed_now_was_not_kept_and_one_that_is_not_does_no_harm() -> None:
    ask = {"id": "ask", "needs": [], "llm": {"model": "openai:m", "prompt": "?"}}
    reader = {"id": "use", "needs": ["ask"], "subprocess": {"command": ["cat"], "stdin": "{{ steps.ask.text }}"}}
    needed, unneeded = _plan(ask, reader), _plan(ask, _noop("use", "ask"))

    assert not is_same(unneeded.step(StepKey("ask")), needed.step(StepKey("ask")))
    assert is_same(needed.step(StepKey("ask")), unneeded.step(StepKey("ask")))
    assert not is_same(None, needed.step(StepKey("ask")))


@settings(deadline=None)
@given(st.data())
def test_nothing_that_is_taken_over_follows_from_what_runs_again(data: st.DataObject) -> None:
    keys = [f"s{number}" for number in range(data.draw(st.integers(1, 9)))]
    needs = [
        data.draw(st.lists(st.sampled_from(keys[:place]), unique=True)) if place else [] for place in range(len(keys))
    ]
    steps = [{"id": key, "needs": wanted, "action": {"type": "noop"}} for key, wanted in zip(keys, needs, strict=True)]
    plan = Plan.from_stored({"name": "tested", "steps": steps})
    graph, again = Graph(plan), [StepKey(key) for key in data.draw(st.lists(st.sampled_from(keys), min_size=1))]
    succeeded = {StepKey(key) for key in data.draw(st.sets(st.sampled_from(keys)))}

    reused = reused_steps(plan, plan, graph, succeeded, again)

    for key in reused:
        assert key in succeeded
        assert key not in again
        assert not any(graph.is_ancestor(each, of=key) for each in again)
    assert succeeded - reused <= with_dependents(graph, again)


def test_a_var_changed_if_its_value_is_another_one() -> None:
    assert changed_vars({"a": 1, "b": True, "gone": 0}, {"a": 1, "b": 1, "new": 0}) == {"b", "new"}
