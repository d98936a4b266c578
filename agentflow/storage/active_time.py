"""How long a run was active, and how long it rested, as surfaces tell it.

Owns the reading only: what ends a rest counts it (runs.rest_waiting, runs.resume).
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from agentflow.domain.ids import RunId
from agentflow.domain.reason import PERSON_CODES
from agentflow.storage.database import statement
from agentflow.storage.retention import missing_run


@dataclass(frozen=True, slots=True)
class ActiveTime:
    """The seconds since a run's start: those in which it was active, and those in which it rested."""

    active: float
    rested: float


def read_active_time(tx: Connection, run_id: RunId) -> ActiveTime:
    """Read how long a run was active; while it waits for people only it rests. NotFound when there is no run."""
    row = tx.execute(
        statement("view_active_seconds"), {"run_id": run_id, "person_codes": sorted(PERSON_CODES)}
    ).one_or_none()
    if row is None:
        raise missing_run(tx, run_id)
    return ActiveTime(round(float(row.active_seconds), 6), round(float(row.rested_seconds), 6))
