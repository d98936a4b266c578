"""Where the audit chains of a run's steps stand."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection

from agentflow.domain.ids import RunId, StepId, StepKey
from agentflow.storage.database import statement


def read_heads(tx: Connection, run_id: RunId) -> dict[StepId, tuple[int, bytes]]:
    """Read the audit heads of a run's steps (only of steps that have events)."""
    rows = tx.execute(statement("read_step_heads"), {"run_id": run_id})
    return {StepId(UUID(str(row.id))): (row.event_sequence, bytes(row.event_head)) for row in rows}


@dataclass(frozen=True, slots=True)
class StepHead:
    """Where a step's audit chain stands, as its row says."""

    key: StepKey
    sequence: int
    head: bytes | None


def read_all_heads(tx: Connection, run_id: RunId) -> dict[StepId, StepHead]:
    """Read where the audit chain of every step of a run stands, also of steps without events."""
    rows = tx.execute(statement("read_all_step_heads"), {"run_id": run_id})
    return {
        StepId(row.id): StepHead(
            StepKey(row.key), row.event_sequence, None if row.event_head is None else bytes(row.event_head)
        )
        for row in rows
    }
