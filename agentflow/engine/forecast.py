"""Forecast: what a run would do and what its model calls would cost at most, before anything of it exists.

Touches no server and calls nobody. A prompt is bounded where it refers to vars alone; what it takes in from other steps
only a worker can count, and the budget bounds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentflow.domain.action import ContentRef, LlmAction, RunAction
from agentflow.domain.budget import Budget, usd_of
from agentflow.domain.error import TemplateError
from agentflow.domain.expression import references, render
from agentflow.domain.forecast import CostBound, Forecast, Unbounded, forecast_of, most_items, multiplied
from agentflow.domain.ids import StepKey
from agentflow.domain.plan import Plan
from agentflow.settings import Settings


def forecast(
    plan: Plan, variables: Mapping[str, Any], content: Mapping[str, bytes], caps: Budget, settings: Settings
) -> Forecast:
    """Tell what a run of ``plan`` with these vars, texts and caps would do."""
    return forecast_of(plan, _cost(plan, variables, content, caps, settings))


def _cost(
    plan: Plan, variables: Mapping[str, Any], content: Mapping[str, bytes], caps: Budget, settings: Settings
) -> CostBound:
    calls, tokens, usd_nano = 0, 0, 0
    unbounded: dict[StepKey, Unbounded] = {}
    for step, times in multiplied(plan):
        if isinstance(step.action, RunAction):
            unbounded[step.id] = Unbounded.CHILD_RUN
        if not isinstance(step.action, LlmAction):
            continue
        attempts = times * most_items(step) * step.retry.max_attempts
        calls += attempts
        bound = _of_call(step.action, variables, content, settings)
        if isinstance(bound, Unbounded):
            unbounded[step.id] = bound
            continue
        tokens += attempts * bound[0]
        if bound[1] is None:
            unbounded[step.id] = Unbounded.UNKNOWN_PRICE
        usd_nano += attempts * (bound[1] or 0)
    return CostBound(
        calls=calls,
        tokens=tokens,
        usd=usd_of(usd_nano),
        unbounded=unbounded,
        capped_tokens=caps.tokens,
        capped_usd=None if caps.usd_nano is None else usd_of(caps.usd_nano),
    )


def _of_call(
    action: LlmAction, variables: Mapping[str, Any], content: Mapping[str, bytes], settings: Settings
) -> tuple[int, int | None] | Unbounded:
    """The tokens and nano-dollars of one call at most; the latter None where nobody knows the price."""
    from agentflow.executors.pricing import most_usd_nano, price_of  # it loads the list of prices
    from agentflow.executors.providers import Credential, load_credentials
    from agentflow.executors.token_bound import most_prompt_tokens

    if action.max_tokens is None:
        return Unbounded.NO_MAX_TOKENS
    model = _rendered(action.model, variables)
    if model is None:
        return Unbounded.MODEL_FROM_STEPS
    texts = [_text(ref, variables, content) for ref in (action.system, action.prompt) if ref is not None]
    known = tuple(text for text in texts if text is not None)
    if len(known) < len(texts):
        return Unbounded.PROMPT_FROM_STEPS
    credentials = load_credentials(settings)
    provider, _, name = model.partition(":")
    credential = credentials.find(provider)
    of_provider = credential if isinstance(credential, Credential) else None
    prompt_tokens = most_prompt_tokens(of_provider, name, known, action.output_schema)
    price = price_of(model, action.price, credentials.kinds)
    usd_nano = None if price is None else most_usd_nano(price, prompt_tokens, action.max_tokens)
    return prompt_tokens + action.max_tokens, usd_nano


def _text(ref: ContentRef, variables: Mapping[str, Any], content: Mapping[str, bytes]) -> str | None:
    text = content.get(ref.sha256)
    return None if text is None else _rendered(text.decode("utf-8"), variables)


def _rendered(template: str, variables: Mapping[str, Any]) -> str | None:
    """A template whose values are known; None where it refers to anything but vars, or cannot be rendered."""
    try:
        if any(reference.root != "vars" for reference in references(template)):
            return None
        return render(template, {"vars": variables})
    except TemplateError:
        return None
