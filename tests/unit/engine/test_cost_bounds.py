"""What the model calls of a plan cost at most is summed from prompts, answers and attempts."""

from __future__ import annotations

from typing import Any

from agentflow.domain.budget import Budget
from agentflow.domain.forecast import CostBound, Forecast, Unbounded
from agentflow.domain.plan_document import PlanReading, read_plan
from agentflow.engine.child_plans import documents_in
from agentflow.engine.forecast import forecast
from agentflow.engine.foresee_children import Children, KnownPlan
from agentflow.engine.load_plan import LoadedPlan, load_data
from agentflow.executors.base import known_actions
from agentflow.executors.token_bound import OVERHEAD_TOKENS
from agentflow.settings import Settings
from tests.factories import command_step, document

PRICE = {"input": 1.0, "output": 2.0}


def _forecast(*steps: dict[str, Any], caps: Budget | None = None, **variables: Any) -> Forecast:
    read = read_plan(document(steps, vars=dict(variables)), available_actions=known_actions())
    assert read.plan is not None, read.faults
    return forecast(_known(read), variables, caps or Budget(), Settings())


def _known(read: PlanReading) -> KnownPlan:
    assert read.plan is not None, read.faults
    return KnownPlan(read.plan, documents_in(read.content))


def _child(*steps: dict[str, Any], **fields: Any) -> LoadedPlan:
    return load_data(document(steps, **fields), ".", available_actions=known_actions())


def _above(stored: dict[str, LoadedPlan], *steps: dict[str, Any], **variables: Any) -> Forecast:
    read = read_plan(document(steps, vars=dict(variables)), available_actions=known_actions())

    def opened(name: str, version: int | None) -> LoadedPlan | None:
        return stored.get(name if version is None else f"{name}@{version}")

    return forecast(_known(read), variables, Budget(), Settings(), Children(opened))


def _run(key: str, plan: str, **fields: Any) -> dict[str, Any]:
    more = {name: fields.pop(name) for name in ("vars", "budget") if name in fields}
    return {"id": key, "needs": [], "run": {"plan": plan, **more}, **fields}


def _ask(key: str, prompt: str = "Go.", **fields: Any) -> dict[str, Any]:
    inner = {"model": "unheard:of", "prompt": prompt, "max_tokens": 100, "price": PRICE} | fields.pop("llm", {})
    written = {name: value for name, value in inner.items() if value is not None}
    return {"id": key, "needs": [], "llm": written, "retry": 2, **fields}


def test_every_attempt_of_every_item_counts() -> None:
    found = _forecast(_ask("ask", foreach={"items": [1, 2, 3]}))

    prompt = OVERHEAD_TOKENS + len("Go.")
    assert found.cost.calls == 3 * 2
    assert found.cost.most_tokens == 6 * (prompt + 100)
    assert found.cost.most_usd == 6 * (prompt + 200) / 1e6


def test_a_prompt_of_vars_is_bounded_by_their_values() -> None:
    short, long = (_forecast(_ask("ask", "{{ vars.text }}"), text=text).cost.tokens for text in ("x", "x" * 101))

    assert long - short == 2 * 100


def test_what_only_the_run_knows_has_no_bound_but_the_caps() -> None:
    first = command_step("first", "echo", "hello")
    found = _forecast(
        first,
        _ask("reads", "{{ steps.first.stdout }}", needs=["first"]),
        _ask("endless", llm={"max_tokens": None}),
        _ask("unpriced", llm={"price": None}),
        caps=Budget(tokens=5000),
    )

    assert found.cost.unbounded == {
        "reads": Unbounded.PROMPT_FROM_STEPS,
        "endless": Unbounded.NO_MAX_TOKENS,
        "unpriced": Unbounded.UNKNOWN_PRICE,
    }
    assert (found.cost.most_tokens, found.cost.most_usd) == (5000, None)


def test_a_child_run_costs_what_its_plan_does_each_time() -> None:
    child = _child(_ask("ask"))
    alone = _forecast(_ask("ask")).cost

    found = _above({"child": child}, _run("once", "child"), _run("each", "child", foreach=[1, 2, 3])).cost

    assert (found.calls, found.unbounded) == (4 * alone.calls, {})
    assert found.most_tokens == 4 * (alone.most_tokens or 0)
    assert found.most_usd == 4 * (alone.most_usd or 0)


def test_the_vars_of_a_child_run_are_known_as_far_as_vars_decide_them() -> None:
    child = _child(_ask("ask", "{{ vars.text }}"), vars={"text": {"required": True}})

    def cost(text: str, **variables: Any) -> CostBound:
        first = command_step("first", "echo", "hello")
        return _above(
            {"child": child}, first, _run("below", "child", vars={"text": text}, needs=["first"]), **variables
        ).cost

    assert cost("x" * 101).tokens - cost("x").tokens == 2 * 100
    assert cost("{{ vars.a }}{{ vars.a }}", a="x" * 10).tokens == cost("x" * 20).tokens
    assert cost("{{ steps.first.stdout }}").unbounded == {"below": Unbounded.CHILD_RUN}


def test_a_child_run_without_a_bound_is_bounded_by_its_own_budget() -> None:
    child = _child(_ask("ask", llm={"max_tokens": None}))
    caps = {"tokens": 500, "usd": 0.25}

    assert _above({"child": child}, _run("below", "child")).cost.unbounded == {"below": Unbounded.CHILD_RUN}
    capped = _above({"child": child}, _run("below", "child", budget=caps)).cost
    assert (capped.most_tokens, capped.most_usd, capped.unbounded) == (500, 0.25, {})


def test_a_child_run_whose_model_has_no_known_price_is_bounded_in_tokens() -> None:
    child = _child(_ask("ask", llm={"price": None}))

    found = _above({"child": child}, _run("below", "child")).cost

    assert found.unbounded == {"below": Unbounded.UNKNOWN_PRICE}
    assert found.most_tokens is not None


def test_a_child_run_whose_plan_nobody_here_knows_is_said_to_be_so_at_any_depth() -> None:
    child = _child(_run("deep", "missing"))

    found = _above({"child": child}, _ask("ask"), _run("below", "child"), _run("other", "missing")).cost

    assert found.unbounded == {"below": Unbounded.UNKNOWN_CHILD, "other": Unbounded.UNKNOWN_CHILD}
    assert found.most_tokens is None
    assert found.calls == 2


def test_a_plan_that_runs_itself_is_not_reckoned_for_ever() -> None:
    stored: dict[str, LoadedPlan] = {}
    stored["again"] = _child(*(_run(f"r{n}", "again", vars={"n": n}) for n in range(20)), vars={"n": 0})

    assert set(_above(stored, _run("below", "again")).cost.unbounded.values()) == {Unbounded.UNKNOWN_CHILD}
