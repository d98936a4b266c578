"""Forecast: what a run would do and what its model calls would cost at most, before anything of it exists.

Touches no server and calls nobody. A prompt is bounded where it refers to vars alone; what it takes in from other steps
only a worker can count, and the budget bounds. Child runs count as far as their plans are at hand.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agentflow.domain.action import ContentRef, LlmAction, RunAction
from agentflow.domain.budget import Budget, nano_of, usd_of
from agentflow.domain.budget_document import overlaid
from agentflow.domain.child_run import MAX_DEPTH
from agentflow.domain.error import TemplateError
from agentflow.domain.expression import references, render
from agentflow.domain.forecast import (
    CostBound,
    Forecast,
    Unbounded,
    forecast_of,
    most_items,
    multiplied,
    with_known_items,
)
from agentflow.domain.ids import StepKey
from agentflow.engine.foresee_children import Children, KnownPlan, foresee_vars
from agentflow.settings import Settings

MAX_RUNS = 1_000
"""How many child runs that differ are reckoned; what is beyond is not known."""


def forecast(
    plan: KnownPlan, variables: Mapping[str, Any], caps: Budget, settings: Settings, children: Children | None = None
) -> Forecast:
    """Tell what a run of ``plan`` with these vars and caps would do; of its child runs those that ``children`` know."""
    cost = _Reckoning(settings, children or Children()).cost(plan, variables, caps)
    return forecast_of(with_known_items(plan.plan, variables), cost)


@dataclass
class _Reckoning:
    """What a tree of runs costs at most. The same plan with the same vars is reckoned once."""

    settings: Settings
    children: Children
    _known: dict[tuple[str, str], CostBound] = field(default_factory=dict)

    def cost(self, known: KnownPlan, variables: Mapping[str, Any], caps: Budget, depth: int = 0) -> CostBound:
        calls, tokens, usd_nano = 0, 0, 0
        unbounded: dict[StepKey, Unbounded] = {}
        for step, times in multiplied(with_known_items(known.plan, variables)):
            most = times * most_items(step)
            match step.action:
                case LlmAction() as action:
                    most *= step.retry.max_attempts
                    bound = _of_call(action, variables, known, self.settings)
                case RunAction() as action:
                    bound = self._of_run(action, variables, known, depth)
                case _:
                    continue
            calls += most * bound.calls
            tokens += most * (bound.tokens or 0)
            usd_nano += most * (bound.usd_nano or 0)
            if bound.why is not None:
                unbounded[step.id] = bound.why
        return CostBound(
            calls=calls,
            tokens=tokens,
            usd=usd_of(usd_nano),
            unbounded=unbounded,
            capped_tokens=caps.tokens,
            capped_usd=None if caps.usd_nano is None else usd_of(caps.usd_nano),
        )

    def _of_run(self, action: RunAction, variables: Mapping[str, Any], parent: KnownPlan, depth: int) -> _Bound:
        """What one child run costs at most, under the caps of its own."""
        is_too_much = depth >= MAX_DEPTH or len(self._known) >= MAX_RUNS
        child = None if is_too_much else self.children.find(parent, action)
        if child is None:
            return _Bound(calls=0, why=Unbounded.UNKNOWN_CHILD)
        given = foresee_vars(child.plan, action.vars, variables)
        caps = overlaid(child.plan.budget, action.budget)
        asked = (child.plan.fingerprint, json.dumps([given, action.model_dump(mode="json"), depth], sort_keys=True))
        if asked not in self._known:
            self._known[asked] = self.cost(child, given, caps, depth + 1)
        cost = self._known[asked]
        tokens, usd = cost.most_tokens, cost.most_usd
        return _Bound(cost.calls, tokens, None if usd is None else nano_of(usd), _why_unbounded(cost))


def _why_unbounded(child: CostBound) -> Unbounded | None:
    """Why a child run has no bound, of tokens or of dollars; None where it has both."""
    if child.most_tokens is not None and child.most_usd is not None:
        return None
    causes = set(child.unbounded.values())
    if Unbounded.UNKNOWN_CHILD in causes:
        return Unbounded.UNKNOWN_CHILD
    is_price_alone = child.most_tokens is not None and causes == {Unbounded.UNKNOWN_PRICE}
    return Unbounded.UNKNOWN_PRICE if is_price_alone else Unbounded.CHILD_RUN


@dataclass(frozen=True, slots=True)
class _Bound:
    """What one attempt of a step costs at most; ``why`` it has no bound, or no known price."""

    calls: int = 1
    tokens: int | None = None
    usd_nano: int | None = None
    why: Unbounded | None = None


def _of_call(action: LlmAction, variables: Mapping[str, Any], known: KnownPlan, settings: Settings) -> _Bound:
    """What one call uses at most."""
    from agentflow.executors.pricing import most_usd_nano, price_of  # it loads the list of prices
    from agentflow.executors.providers import Credential, load_credentials
    from agentflow.executors.token_bound import most_prompt_tokens

    if action.max_tokens is None:
        return _Bound(why=Unbounded.NO_MAX_TOKENS)
    model = _rendered(action.model, variables)
    if model is None:
        return _Bound(why=Unbounded.MODEL_FROM_STEPS)
    texts = [_text(ref, variables, known) for ref in (action.system, action.prompt) if ref is not None]
    full = tuple(text for text in texts if text is not None)
    if len(full) < len(texts):
        return _Bound(why=Unbounded.PROMPT_FROM_STEPS)
    credentials = load_credentials(settings)
    provider, _, name = model.partition(":")
    credential = credentials.find(provider)
    of_provider = credential if isinstance(credential, Credential) else None
    prompt_tokens = most_prompt_tokens(of_provider, name, full, action.output_schema)
    price = price_of(model, action.price, credentials.kinds)
    usd_nano = None if price is None else most_usd_nano(price, prompt_tokens, action.max_tokens)
    why = Unbounded.UNKNOWN_PRICE if usd_nano is None else None
    return _Bound(tokens=prompt_tokens + action.max_tokens, usd_nano=usd_nano, why=why)


def _text(ref: ContentRef, variables: Mapping[str, Any], known: KnownPlan) -> str | None:
    text = known.text(ref.sha256)
    return None if text is None else _rendered(text.decode("utf-8"), variables)


def _rendered(template: str, variables: Mapping[str, Any]) -> str | None:
    """A template whose values are known; None where it refers to anything but vars, or cannot be rendered."""
    try:
        if any(reference.root != "vars" for reference in references(template)):
            return None
        return render(template, {"vars": variables})
    except TemplateError:
        return None
