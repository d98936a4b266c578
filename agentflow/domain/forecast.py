"""What a run would do, told from its plan alone: the order of its steps, its gates, and how many steps it may come to.

Pure. What it may cost is engine/forecast.py's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from agentflow.domain.action import ApprovalAction
from agentflow.domain.error import TemplateError
from agentflow.domain.expression import evaluate, inspect_expression
from agentflow.domain.gate import GateTerms
from agentflow.domain.graph import Graph
from agentflow.domain.ids import StepKey
from agentflow.domain.plan import Plan, Step


class Unbounded(StrEnum):
    """Why it cannot be told what a step costs at most."""

    NO_MAX_TOKENS = "no_max_tokens"
    PROMPT_FROM_STEPS = "prompt_from_steps"
    MODEL_FROM_STEPS = "model_from_steps"
    UNKNOWN_PRICE = "unknown_price"
    CHILD_RUN = "child_run"
    UNKNOWN_CHILD = "unknown_child"


@dataclass(frozen=True, slots=True)
class CostBound:
    """What the model calls of a run cost at most, every attempt taken; None where there is no bound.

    ``tokens`` and ``usd`` are the sum over the steps that have one; ``unbounded`` says why others have none. ``capped``
    are the run's own caps, above which nothing is spent either way. What is lost with its worker comes on top.
    """

    calls: int = 0
    tokens: int = 0
    usd: float = 0.0
    unbounded: Mapping[StepKey, Unbounded] = field(default_factory=dict)
    capped_tokens: int | None = None
    capped_usd: float | None = None

    @property
    def most_tokens(self) -> int | None:
        """How many tokens the run uses at most."""
        is_bounded = set(self.unbounded.values()) <= {Unbounded.UNKNOWN_PRICE}
        return _least([self.tokens if is_bounded else None, self.capped_tokens])

    @property
    def most_usd(self) -> float | None:
        """How many dollars the run uses at most."""
        return _least([None if self.unbounded else self.usd, self.capped_usd])

    def as_json(self) -> dict[str, Any]:
        """The bound as it stands in a dry run."""
        return {
            "calls": self.calls,
            "tokens": self.most_tokens,
            "usd": self.most_usd,
            "unbounded": {key: why.value for key, why in self.unbounded.items()},
        }


Amount = TypeVar("Amount", int, float)


def _least(bounds: Iterable[Amount | None]) -> Amount | None:
    return min((each for each in bounds if each is not None), default=None)


@dataclass(frozen=True, slots=True)
class GateForecast:
    """A gate that the run comes to; ``items`` is how often at most, where it stands in a foreach."""

    step: StepKey
    terms: GateTerms
    items: int = 1

    def as_json(self) -> dict[str, Any]:
        """The gate as it stands in a dry run."""
        terms = self.terms
        return {
            "step": self.step,
            "kind": terms.kind.value,
            "approvers": list(terms.approvers),
            "count": terms.count,
            "allows_self": terms.allows_self,
            "expires_seconds": terms.expires_seconds,
            "most": self.items,
        }


@dataclass(frozen=True, slots=True)
class ForeachForecast:
    """A foreach: how many items it has, None where only the run knows, and at most."""

    step: StepKey
    items: int | None
    most: int
    max_parallel: int | None

    def as_json(self) -> dict[str, Any]:
        """The foreach as it stands in a dry run."""
        return {"step": self.step, "items": self.items, "most": self.most, "max_parallel": self.max_parallel}


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a run would do. ``levels`` are its steps in their order: those of one may run at once.

    ``most_steps`` counts the rows that the run may come to, with all that its foreachs may make.
    """

    levels: tuple[tuple[StepKey, ...], ...]
    gates: tuple[GateForecast, ...]
    foreachs: tuple[ForeachForecast, ...]
    most_steps: int
    cost: CostBound = CostBound()

    def as_json(self) -> dict[str, Any]:
        """The forecast as it stands in a dry run."""
        return {
            "levels": [list(level) for level in self.levels],
            "gates": [gate.as_json() for gate in self.gates],
            "foreachs": [foreach.as_json() for foreach in self.foreachs],
            "most_steps": self.most_steps,
            "cost": self.cost.as_json(),
        }


def forecast_of(plan: Plan, cost: CostBound = CostBound()) -> Forecast:
    """Tell what a run of ``plan`` would do."""
    return Forecast(
        levels=Graph(plan).levels,
        gates=tuple(_gates(plan)),
        foreachs=tuple(_foreachs(plan)),
        most_steps=sum(times + _items(step, times) for step, times in multiplied(plan)),
        cost=cost,
    )


def with_known_items(plan: Plan, variables: Mapping[str, Any]) -> Plan:
    """Return the plan with the lists written out that its vars alone decide, so that they are counted."""
    if not any(step.foreach for step in plan.steps):
        return plan
    steps = tuple(_with_known_items(step, variables) for step in plan.steps)
    return Plan.model_validate(dict(plan) | {"steps": steps})  # no update in place: it remembers what it found out


def _with_known_items(step: Step, variables: Mapping[str, Any]) -> Step:
    if (terms := step.foreach) is None:
        return step
    known = _known_items(terms.items, variables) if isinstance(terms.items, str) else None
    items = terms.items if known is None else known
    inner = tuple(_with_known_items(each, variables) for each in terms.steps)
    return step.model_copy(update={"foreach": terms.model_copy(update={"items": items, "steps": inner})})


def _known_items(expression: str, variables: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """Evaluate a list that refers to vars alone; None for what only the run knows, and for what is no list."""
    if any(reference.root != "vars" for reference in inspect_expression(expression).references):
        return None
    try:
        found = evaluate(expression, {"vars": variables})
    except TemplateError:
        return None
    return tuple(found) if isinstance(found, list | tuple) else None


def multiplied(plan: Plan) -> Iterator[tuple[Step, int]]:
    """Yield every step of a plan, each with how often at most it is made: once for each item around it."""
    work = [(step, 1) for step in reversed(plan.steps)]
    while work:
        step, times = work.pop()
        yield step, times
        if step.foreach is not None:
            work.extend((inner, times * most_items(step)) for inner in reversed(step.foreach.steps))


def most_items(step: Step) -> int:
    """How many items a foreach has at most; 1 for any other step."""
    if step.foreach is None:
        return 1
    return step.foreach.max_children if isinstance(step.foreach.items, str) else len(step.foreach.items)


def _items(step: Step, times: int) -> int:
    """How many items of its own a step makes at most, each time that it is made."""
    return 0 if step.foreach is None else times * most_items(step)


def _gates(plan: Plan) -> Iterator[GateForecast]:
    for step, times in multiplied(plan):
        if isinstance(step.action, ApprovalAction):
            yield GateForecast(step.id, step.action.gate, times * most_items(step))


def _foreachs(plan: Plan) -> Iterator[ForeachForecast]:
    for step, _ in multiplied(plan):
        if step.foreach is not None:
            known = None if isinstance(step.foreach.items, str) else len(step.foreach.items)
            yield ForeachForecast(step.id, known, most_items(step), step.foreach.max_parallel)
