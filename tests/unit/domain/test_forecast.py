"""What a run would do is told from its plan: order, gates, and how much there may be at most."""

from __future__ import annotations

from agentflow.domain.forecast import CostBound, ForeachForecast, Unbounded, forecast_of, with_known_items
from agentflow.domain.ids import StepKey
from agentflow.domain.plan import Plan

NOOP = {"type": "noop"}


def _plan(*steps: dict[str, object]) -> Plan:
    return Plan.model_validate({"name": "tested", "steps": list(steps)})


def test_the_order_of_steps_is_told_in_levels() -> None:
    plan = _plan(
        {"id": "a", "action": NOOP},
        {"id": "b", "needs": ["a"], "action": NOOP},
        {"id": "c", "needs": ["a"], "action": NOOP},
        {"id": "d", "needs": ["b", "c"], "action": NOOP},
    )

    assert forecast_of(plan).levels == (("a",), ("b", "c"), ("d",))
    assert forecast_of(plan).most_steps == 4


def test_foreachs_are_bounded_by_what_they_may_make_also_inside_of_each_other() -> None:
    inner = {
        "id": "inner",
        "action": NOOP,
        "foreach": {"items": "item.pages", "max_children": 10, "max_parallel": 2},
    }
    gate = {"id": "ask", "needs": ["inner"], "action": {"type": "approval", "gate": {"count": 2}}}
    plan = _plan(
        {"id": "outer", "action": {"type": "group"}, "foreach": {"items": [1, 2, 3], "steps": [inner, gate]}},
    )

    forecast = forecast_of(plan)

    assert forecast.foreachs == (
        ForeachForecast(StepKey("outer"), 3, 3, None),
        ForeachForecast(StepKey("inner"), None, 10, 2),
    )
    assert forecast.most_steps == 1 + 3 * (1 + 1 + 10 + 1)
    [found] = forecast.gates
    assert (found.step, found.terms.count, found.items) == ("ask", 2, 3)


def test_a_list_that_the_vars_decide_is_counted_and_any_other_is_bounded() -> None:
    steps = {"inner": "vars.hosts", "other": "steps.inner.results", "none": "vars.no_list"}
    plan = _plan(*({"id": name, "action": NOOP, "foreach": {"items": items}} for name, items in steps.items()))

    known = with_known_items(plan, {"hosts": ["a", "b"], "no_list": "text"})

    assert [(each.step, each.items) for each in forecast_of(known).foreachs] == [
        ("inner", 2),
        ("other", None),
        ("none", None),
    ]
    assert plan.steps[0].foreach is not None
    assert plan.steps[0].foreach.items == "vars.hosts", "the plan itself stays as it is"


def test_a_cap_bounds_what_has_no_bound_of_its_own() -> None:
    open_end = {StepKey("ask"): Unbounded.PROMPT_FROM_STEPS}
    unpriced = {StepKey("ask"): Unbounded.UNKNOWN_PRICE}

    assert CostBound(2, 500, 0.25).most_tokens == 500
    assert CostBound(2, 500, 0.25, capped_tokens=300, capped_usd=1.0).as_json() == {
        "calls": 2, "tokens": 300, "usd": 0.25, "unbounded": {},
    }  # fmt: skip
    assert CostBound(2, 500, 0.25, open_end).as_json()["tokens"] is None
    assert CostBound(2, 500, 0.25, open_end, capped_tokens=900).most_tokens == 900
    assert (CostBound(2, 500, 0.25, unpriced).most_tokens, CostBound(2, 500, 0.25, unpriced).most_usd) == (500, None)
