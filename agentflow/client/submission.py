"""A submission: what it may say, and what it is once checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

from agentflow.client.plan import Budget
from agentflow.domain.budget import Budget as Caps
from agentflow.domain.budget import BudgetKind
from agentflow.domain.forecast import Forecast
from agentflow.domain.mode import Mode
from agentflow.domain.plan import Plan, Step
from agentflow.domain.shortfall import cap_of
from agentflow.engine.load_plan import LoadedPlan


@dataclass(frozen=True, slots=True)
class CheckedPlan:
    """A submission before it is sent: the plan, every var's value, the run's project, budget, directive and mode.

    ``forecast`` tells what the run would do.
    """

    loaded: LoadedPlan
    vars: Mapping[str, Any]
    project: str
    budget: Caps
    directive: str | None
    mode: Mode
    forecast: Forecast

    def as_json(self) -> dict[str, Any]:
        """What ``run --dry-run --json`` prints, without templates and commands."""
        plan, caps = self.loaded.plan, self.budget
        amounts = {kind.value: cap for kind in BudgetKind if (cap := cap_of(caps, kind)) is not None}
        return {
            "schema": "agentflow.dry-run/1",
            "project": self.project,
            "directive": self.directive,
            "vars": dict(self.vars),
            "budget": amounts or None,
            "mode": self.mode.value,
            "plan": {"name": plan.name, "fingerprint": plan.fingerprint},
            "files": [file.model_dump(mode="json") for file in plan.files],
            "secrets": list(plan.secrets),
            "steps": [_step(plan, step) for step in plan.every_step],
            **self.forecast.as_json(),
        }


class SubmitOptions(TypedDict, total=False):
    """What a submission may say beside its plan, vars and project."""

    idempotency_key: str | None
    actor: str | None
    budget: Budget | Mapping[str, Any] | None
    directive: str | None
    mode: str | None
    plan_hash: str | None
    allows_self: bool


def _step(plan: Plan, step: Step) -> dict[str, Any]:
    return {
        "id": step.id,
        "action": step.action.type,
        "needs": list(step.needs),
        "when": step.when,
        "timeout_seconds": step.timeout_seconds,
        "max_attempts": step.retry.max_attempts,
        "rate_limit": step.rate_limit and step.rate_limit.model_dump(),
        "concurrency": step.concurrency and step.concurrency.model_dump(),
        "on_failure": step.on_failure,
        "on_lost": step.on_lost,
        "foreach": plan.foreach_around.get(step.id),
        "goes_through": _goes_through(step),
    }


def _goes_through(step: Step) -> dict[str, Any] | None:
    if (terms := step.foreach) is None:
        return None
    known = None if isinstance(terms.items, str) else len(terms.items)
    return {"items": known, **terms.model_dump(include={"max_parallel", "max_children", "merge"})}
