"""Check costs: whether what each model call may cost has a bound, wherever a budget caps it.

Owns the refusal at submit. It looks at the plan, its vars and the caps alone; what only a worker can know (the name of
a model that comes from another step) the worker refuses. How much is reserved is reserve's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from agentflow.domain.action import LlmAction
from agentflow.domain.budget import Budget, Scope
from agentflow.domain.error import TemplateError
from agentflow.domain.expression import references, render
from agentflow.domain.fault import Fault
from agentflow.domain.plan import Plan, Step
from agentflow.domain.wording import listing, shorten
from agentflow.settings import Settings

_ANY_DAY = datetime(2000, 1, 1, tzinfo=UTC)
"""Each day has the same caps."""


def check_costs(
    plan: Plan,
    variables: Mapping[str, Any],
    *,
    caps: Budget,
    caps_above: Sequence[Budget] = (),
    project: str,
    directive: str | None,
    settings: Settings,
) -> tuple[Fault, ...]:
    """Return a fault for each model call of a run with ``caps`` whose cost has no bound although a budget caps it.

    ``caps_above`` are those of the runs above a child run.
    """
    above = [Scope("the runs above it", each) for each in caps_above]
    scopes = [Scope("the run", caps), *above, *settings.budgets.scopes(project, directive, _ANY_DAY)]
    of_both = _names(scopes, lambda limits: limits.tokens is not None or limits.usd_nano is not None)
    of_usd = _names(scopes, lambda limits: limits.usd_nano is not None)
    faults: list[Fault] = []
    for step, path in plan.places():
        if isinstance(step.action, LlmAction):
            place = (*path, "llm")
            faults += _unbounded(step, step.action, place, of_both)
            faults += _unpriced(step, step.action, place, of_usd, variables, settings)
    return tuple(faults)


def _names(scopes: Sequence[Scope], is_meant: Callable[[Budget], bool]) -> str:
    """Name the scopes with such caps; nothing where there is none."""
    names = [
        scope.name.partition("@")[0] + (" for each day" if scope.since else "")
        for scope in scopes
        if is_meant(scope.limits)
    ]
    return listing(names)


def _unbounded(step: Step, action: LlmAction, place: tuple[str | int, ...], scopes: str) -> Iterator[Fault]:
    if scopes and action.max_tokens is None:
        yield Fault(
            "missing_max_tokens",
            f"the step has no max_tokens, and what it may use is capped (by a budget of {scopes}): write the most "
            "tokens that the answer may have, such as max_tokens: 500",
            place,
            step.id,
        )


def _unpriced(
    step: Step,
    action: LlmAction,
    place: tuple[str | int, ...],
    scopes: str,
    variables: Mapping[str, Any],
    settings: Settings,
) -> Iterator[Fault]:
    if not scopes or action.price is not None:
        return
    from agentflow.executors.pricing import price_of  # it loads the list of prices
    from agentflow.executors.providers import load_credentials

    model = _model(action.model, variables)
    if model is not None and price_of(model, None, load_credentials(settings).kinds) is None:
        yield Fault(
            "unknown_price",
            f"the price of {shorten(model)!r} is unknown, and usd is capped (by a budget of {scopes}): write the price "
            "in USD per million tokens, such as price: {input: 0.15, output: 0.60}",
            (*place, "model"),
            step.id,
        )


def _model(template: str, variables: Mapping[str, Any]) -> str | None:
    """Return the name of the model; None where only the worker can know it."""
    try:
        if any(reference.root != "vars" for reference in references(template)):
            return None
        return render(template, {"vars": variables})
    except TemplateError:
        return None
