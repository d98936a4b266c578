"""What a trace tells of a run: only read where tracing is on."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from sqlalchemy import Connection

from agentflow.domain.ids import RunId
from agentflow.storage.database import statement


@dataclass(frozen=True, slots=True)
class TracedRun:
    """A run; ``outermost`` is the run above all that are above it, or itself. ``code`` is its reason's."""

    outermost: UUID
    parent_run: UUID | None
    parent_step: str | None
    project: str
    plan: str
    created_at: datetime
    ended_at: datetime | None
    state: str
    round: int
    code: str | None


def read(tx: Connection, run_id: RunId) -> TracedRun | None:
    """Read what a trace tells of a run; None for an unknown one."""
    row = tx.execute(statement("read_traced_run"), {"run_id": run_id}).mappings().one_or_none()
    return None if row is None else TracedRun(**row)
