"""Where steps stand, as a monitor is told of it; reads only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from agentflow.domain.ids import RunId, StepId, StepKey
from agentflow.domain.reason import Reason
from agentflow.domain.state import StepState
from agentflow.storage.database import statement


@dataclass(frozen=True, slots=True)
class Standing:
    """A step; ``worker`` had its last attempt, which had ``retries`` behind it in this round."""

    id: StepId
    run_id: RunId
    key: StepKey
    action: str
    state: StepState
    reason: Reason | None
    retries: int
    worker: str | None


def read(tx: Connection, step_ids: Sequence[StepId]) -> list[Standing]:
    """Read how these steps stand; unknown ones are left out."""
    rows = tx.execute(statement("read_standings"), {"step_ids": list(step_ids)})
    return [
        Standing(
            StepId(row.id),
            RunId(row.run_id),
            StepKey(row.key),
            row.action,
            StepState(row.state),
            Reason.from_json(row.reason) if row.reason else None,
            row.retries,
            row.worker,
        )
        for row in rows
    ]
