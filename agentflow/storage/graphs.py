"""Graphs: the steps and edges of a run as they are first written, at submit or when a foreach makes them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from sqlalchemy import Connection

from agentflow.domain.ids import RunId, StepId, StepKey
from agentflow.storage.database import statement, to_json


@dataclass(frozen=True, slots=True)
class StepLimits:
    """The limits of a step as its row holds them; None where it has none."""

    slot_key: str | None = None
    slot_limit: int | None = None
    rate_key: str | None = None
    rate_interval_seconds: float | None = None
    rate_burst: int | None = None


UNLIMITED = StepLimits()


@dataclass(frozen=True, slots=True)
class NewStep:
    """A step as it is written at submit."""

    id: StepId
    key: StepKey
    position: int
    action: str
    queue: str
    when_rule: str
    is_sink: bool
    needs: int
    limits: StepLimits = UNLIMITED
    is_engines: bool = False
    parent: StepKey | None = None
    item: int | None = None
    awaits_turn: bool = False


@dataclass(frozen=True, slots=True)
class NewEdge:
    """``to_step`` needs ``from_step``; ``labels`` are those of a decision that take it."""

    from_step: StepId
    to_step: StepId
    labels: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class WrittenGraph:
    """Steps and edges as the statements take them: made before a transaction, which must not rest meanwhile."""

    steps: str
    edges: str | None


def written_graph(steps: Sequence[NewStep], edges: Sequence[NewEdge]) -> WrittenGraph:
    """Write steps and edges as the statements take them."""
    records = [
        {
            "id": str(step.id),
            "key": step.key,
            "position": step.position,
            "action": step.action,
            "queue": step.queue,
            "when_rule": step.when_rule,
            "is_sink": step.is_sink,
            "needs": step.needs,
            "is_engines": step.is_engines,
            "parent": step.parent,
            "item": step.item,
            "awaits_turn": step.awaits_turn,
            **asdict(step.limits),
        }
        for step in steps
    ]
    written = [
        {"from_step": str(edge.from_step), "to_step": str(edge.to_step), "labels": edge.labels} for edge in edges
    ]
    return WrittenGraph(to_json(records), to_json(written) if written else None)


def insert_graph(tx: Connection, run_id: RunId, graph: WrittenGraph) -> None:
    """Write steps and edges into a run, in two statements whatever their number."""
    tx.execute(statement("insert_steps"), {"run_id": run_id, "steps": graph.steps})
    if graph.edges is not None:
        tx.execute(statement("insert_edges"), {"edges": graph.edges})
