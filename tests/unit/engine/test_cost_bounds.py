"""What the model calls of a plan cost at most is summed from prompts, answers and attempts."""

from __future__ import annotations

from typing import Any

from agentflow.domain.budget import Budget
from agentflow.domain.forecast import Forecast, Unbounded
from agentflow.domain.plan_document import read_plan
from agentflow.engine.forecast import forecast
from agentflow.executors.base import known_actions
from agentflow.executors.token_bound import OVERHEAD_TOKENS
from agentflow.settings import Settings
from tests.factories import command_step, document

PRICE = {"input": 1.0, "output": 2.0}


def _forecast(*steps: dict[str, Any], caps: Budget | None = None, **variables: Any) -> Forecast:
    read = read_plan(document(steps, vars=dict(variables)), available_actions=known_actions())
    assert read.plan is not None, read.faults
    return forecast(read.plan, variables, read.content, caps or Budget(), Settings())


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
