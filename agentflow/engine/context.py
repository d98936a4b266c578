"""What every verb works with: the database, the broker, the content store, the settings, and plans read before.

Built by runtime.py, once per process. Owns the cache of plans; holds no state of runs.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field
from functools import cached_property

from celery import Celery
from sqlalchemy import Connection

from agentflow.broker.bells import SideChannel
from agentflow.broker.breakers import Breakers
from agentflow.broker.budgets import Ledger
from agentflow.broker.canvas import Bell
from agentflow.content.store import ContentStore
from agentflow.domain.child import body_key, is_child, is_item, parent, plan_id
from agentflow.domain.graph import Graph
from agentflow.domain.ids import RunId, StepKey, step_id
from agentflow.domain.item_flow import ItemFlow, flow_of
from agentflow.domain.plan import Plan
from agentflow.executors.base import executor_for
from agentflow.settings import Settings
from agentflow.storage import plans
from agentflow.storage.database import Database
from agentflow.telemetry.tracing import Tracing

CACHED_PLANS = 64
ENGINE_QUEUE = "engine"
"""What stands as the queue of steps that no worker performs."""


@dataclass(frozen=True)
class PlanView:
    """A plan with its graph, computed once."""

    plan: Plan

    @cached_property
    def has_child_runs(self) -> bool:
        """Whether a step of it runs another plan."""
        return any(step.action.type == "run" for step in self.plan.every_step)

    @cached_property
    def graph(self) -> Graph:
        """The plan's graph."""
        return Graph(self.plan)

    @cached_property
    def flow(self) -> ItemFlow:
        """The plan's foreachs, and where what they go through comes from."""
        return flow_of(self.plan)

    @cached_property
    def _body_graphs(self) -> dict[StepKey, Graph]:
        return {step.id: Graph(step.foreach.steps) for step in self.plan.every_step if step.foreach is not None}

    def body_graph(self, foreach: StepKey) -> Graph:
        """The graph of the body of a foreach, by the ids of its steps."""
        return self._body_graphs[plan_id(foreach)]

    def queue_of(self, key: StepKey) -> str:
        """The queue that a step's action is served by; no worker serves the engine's own."""
        return ENGINE_QUEUE if self.plan.is_engines(key) else executor_for(self.plan.step(key).action.type).queue

    def stands_in_line(self, key: StepKey) -> bool:
        """Whether only the dispatcher sends a step's doorbells: it gives out places of concurrency keys in order."""
        return self.plan.step(key).concurrency is not None

    def stretch_from(self, key: StepKey, limit: int) -> tuple[StepKey, ...]:
        """The straight stretch that starts at ``key``, within the plan or within one item of a foreach."""
        if not is_child(key):
            return self.graph.stretch_from(key, self.queue_of, limit)
        item, foreach = parent(key), self.plan.foreach_around.get(plan_id(key))
        if is_item(key) or item is None or foreach is None:
            return (key,)

        def queue_of(step: StepKey) -> str:
            return self.queue_of(body_key(item, step))

        inner = self.body_graph(foreach).stretch_from(plan_id(key), queue_of, limit)
        return tuple(body_key(item, step) for step in inner)

    def bells(self, run_id: RunId, key: StepKey, limit: int, retries: int = 0) -> list[Bell]:
        """The straight stretch from ``key`` as one message carries it; what follows the first was not tried yet."""
        return [
            Bell(
                run_id,
                step_id(run_id, each),
                each,
                self.plan.step(each).action.type,
                self.queue_of(each),
                retries if each == key else 0,
            )
            for each in self.stretch_from(key, limit)
        ]


class PlanCache:
    """The plans that this process used last; plans never change, so nothing is ever stale."""

    def __init__(self) -> None:
        self._views: OrderedDict[str, PlanView] = OrderedDict()

    def get(self, tx: Connection, fingerprint: str) -> PlanView:
        """Return a plan by its fingerprint, reading it at first use."""
        view = self._views.get(fingerprint)
        if view is None:
            view = PlanView(plans.read(tx, fingerprint))
            self._views[fingerprint] = view
            if len(self._views) > CACHED_PLANS:
                self._views.popitem(last=False)
        return view


@dataclass(frozen=True)
class EngineContext:
    """One process's connections and settings."""

    settings: Settings
    database: Database
    celery: Celery
    side_channel: SideChannel
    store: ContentStore
    breakers: Breakers
    ledger: Ledger
    audit_key: bytes = field(repr=False)
    plans: PlanCache = field(default_factory=PlanCache)
    tracing: Tracing = field(default_factory=Tracing)
