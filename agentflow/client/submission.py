"""A submission: what it may say, and what it is once checked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypedDict

from agentflow.client.plan import Budget
from agentflow.domain.budget import Budget as Caps
from agentflow.domain.forecast import Forecast
from agentflow.domain.mode import Mode
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


class SubmitOptions(TypedDict, total=False):
    """What a submission may say beside its plan, vars and project."""

    idempotency_key: str | None
    actor: str | None
    budget: Budget | Mapping[str, Any] | None
    directive: str | None
    mode: str | None
    plan_hash: str | None
    allows_self: bool
