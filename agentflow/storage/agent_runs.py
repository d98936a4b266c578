"""Runs as the list of the founding paths has them: a page of them in one statement beside that of their summaries."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from agentflow.domain.ids import RunId
from agentflow.storage.database import statement


@dataclass(frozen=True, slots=True)
class AgentFacts:
    """What is told of a run beside its summary; ``goal`` is the value of its var of that name."""

    goal: object
    finished: int
    has_begun: bool
    has_open_gate: bool
    tokens: int
    token_cap: float | None


def read_facts(tx: Connection, run_ids: Sequence[RunId], goal: str) -> Mapping[RunId, AgentFacts]:
    """Read what is told of runs; of one that is gone nothing."""
    rows = tx.execute(statement("view_agent_runs"), {"run_ids": list(run_ids), "goal": goal})
    return {
        RunId(row.id): AgentFacts(row.goal, row.finished, row.has_begun, row.has_open_gate, row.tokens, row.token_cap)
        for row in rows
    }
