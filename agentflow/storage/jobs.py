"""Jobs: noting, ending and reading what the API does behind the answer.

Owns the rows and the public shape. Who works at one stands in engine/job_worker.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from agentflow.domain.job import JobKind, JobState
from agentflow.storage.database import statement, to_json
from agentflow.storage.view_shapes import moment

LOST_SECONDS = 60.0
"""A process that gave no sign for so long works at its job no more."""
KEPT_JOBS = 100
"""How many that ended are kept."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job has come; ``total`` is None where nobody knows it."""

    done: int = 0
    total: int | None = None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job ended, with its result where it was done and its problem where it failed."""

    state: JobState
    result: Mapping[str, Any] | None = None
    problem: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as it is shown."""

    id: UUID
    kind: JobKind
    state: JobState
    asked_by: str
    begun_at: datetime
    beaten_at: datetime
    ended_at: datetime | None
    progress: Progress
    result: Mapping[str, Any] | None
    problem: Mapping[str, Any] | None

    def as_json(self) -> dict[str, Any]:
        """The job as the API answers it."""
        return {
            "schema": "agentflow.job/1",
            "id": str(self.id),
            "kind": self.kind.value,
            "state": self.state.value,
            "asked_by": self.asked_by,
            "begun_at": moment(self.begun_at),
            "beaten_at": moment(self.beaten_at),
            "ended_at": moment(self.ended_at),
            "done": self.progress.done,
            "total": self.progress.total,
            "result": None if self.result is None else dict(self.result),
            "problem": None if self.problem is None else dict(self.problem),
        }


def begin(tx: Connection, job_id: UUID, kind: JobKind, asked_by: str) -> bool:
    """Note a job as begun, and forget what is old; False where one of its kind is under way."""
    tx.execute(statement("end_lost_jobs"), {"lost_seconds": LOST_SECONDS})
    tx.execute(statement("delete_old_jobs"), {"kept": KEPT_JOBS})
    parameters = {"id": job_id, "kind": kind, "asked_by": asked_by}
    return tx.execute(statement("insert_job"), parameters).one_or_none() is not None


def beat(tx: Connection, job_id: UUID, progress: Progress) -> bool:
    """Say that a job goes on; False where it was given up."""
    parameters = {"id": job_id, "done": progress.done, "total": progress.total}
    return tx.execute(statement("beat_job"), parameters).one_or_none() is not None


def end(tx: Connection, job_id: UUID, progress: Progress, ending: Ending) -> bool:
    """End a job; False where it was given up."""
    parameters = {
        "id": job_id,
        "state": ending.state,
        "done": progress.done,
        "total": progress.total,
        "result": None if ending.result is None else to_json(dict(ending.result)),
        "problem": None if ending.problem is None else to_json(dict(ending.problem)),
    }
    return tx.execute(statement("end_job"), parameters).one_or_none() is not None


def view(tx: Connection, *, job_id: UUID | None = None, kind: JobKind | None = None) -> list[JobView]:
    """Read jobs, the newest first; those without a sign are lost, whatever their rows say."""
    rows = tx.execute(statement("view_jobs"), {"id": job_id, "kind": kind, "lost_seconds": LOST_SECONDS})
    return [
        JobView(
            row.id,
            JobKind(row.kind),
            JobState(row.state),
            row.asked_by,
            row.begun_at,
            row.beaten_at,
            row.ended_at,
            Progress(row.done, row.total),
            row.result,
            row.problem,
        )
        for row in rows
    ]
