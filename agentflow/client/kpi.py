"""The few figures that a live page shows of an installation, or of one project in it.

Owns what each of them means. Workers and queues are the installation's, whatever the project.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from agentflow.client.budget_report import BudgetReport
from agentflow.client.service import QueueView
from agentflow.storage import balances, feeds
from agentflow.storage.feeds import Measured
from agentflow.storage.view_shapes import moment

if TYPE_CHECKING:
    from agentflow.client.flow import AgentFlow

KPI_SCHEMA = "agentflow.kpi/1"
WINDOW_SECONDS = 300.0
_DEPTH_EVENTS = 20_000
"""By how many of the newest events attempts are counted, at most: on a busy day the window is shorter."""


@dataclass(frozen=True, slots=True)
class Service:
    """What works for all projects: how many workers take messages, and how the queues stand."""

    active_workers: int
    queues: tuple[QueueView, ...]


@dataclass(frozen=True, slots=True)
class Kpi:
    """The figures of a moment; attempts are those that ended within the window."""

    read_at: datetime
    project: str | None
    attempts: Measured
    service: Service
    budget: BudgetReport

    def as_json(self) -> dict[str, Any]:
        """The figures as the event ``kpi`` has them."""
        ended, latency = self.attempts.ended, self.attempts.latency_ms
        return {
            "schema": KPI_SCHEMA,
            "read_at": moment(self.read_at),
            "project": self.project,
            "window_seconds": WINDOW_SECONDS,
            "task_count": ended,
            "avg_latency_ms": None if latency is None else round(latency, 1),
            "success_rate": round(self.attempts.succeeded / ended, 4) if ended else None,
            "active_workers": self.service.active_workers,
            "queues": [
                {"name": each.name, "messages": each.messages, "outstanding": each.outstanding, "unsent": each.unsent}
                for each in self.service.queues
            ],
            "budget": self.budget.as_json()["scopes"],
        }


def read_service(flow: AgentFlow) -> Service:
    """Read what is the same for all projects: once for all of which the figures are told at a time."""
    serving = sum(worker.is_serving for worker in flow.workers().workers)
    return Service(serving, flow.queues().queues)


def read_kpi(flow: AgentFlow, service: Service, project: str | None = None) -> Kpi:
    """Read the figures: attempts and budgets of a project, or of all."""
    with flow.context.database.transaction() as tx:
        read_at = balances.read_now(tx)
        attempts = feeds.measure_attempts(tx, project, WINDOW_SECONDS, _DEPTH_EVENTS)
    return Kpi(read_at, project, attempts, service, flow.budget(project=project))
