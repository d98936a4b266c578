"""The table of the jobs that the API was asked for: what takes longer than a request may.

Owns the shape of the rows, as tables.py does for the runs.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, Index, text
from sqlmodel import Field, SQLModel

from agentflow.domain.job import JobKind, JobState
from agentflow.storage.columns import count, json, moment, one_of


class JobRow(SQLModel, table=True):
    """A job; its process says by ``beaten_at`` that it still works at it. ``total`` is null where nobody knows it."""

    __tablename__ = "job"
    __table_args__ = (
        one_of("kind", JobKind),
        one_of("state", JobState),
        CheckConstraint("(ended_at IS NULL) = (state = 'running')", name="ended_unless_running"),
        CheckConstraint("(result IS NOT NULL) = (state = 'done')", name="result_iff_done"),
        CheckConstraint("(problem IS NOT NULL) = (state = 'failed')", name="problem_iff_failed"),
        Index("job_under_way", "kind", unique=True, postgresql_where=text("state = 'running'")),
    )
    id: UUID = Field(primary_key=True)
    kind: str
    state: str
    asked_by: str
    begun_at: datetime = Field(sa_column=moment(now=True))
    beaten_at: datetime = Field(sa_column=moment(now=True))
    ended_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    done: int = Field(sa_column=count())
    total: int | None = Field(default=None, sa_column=count(nullable=True))
    result: dict[str, Any] | None = Field(default=None, sa_column=json(nullable=True))
    problem: dict[str, Any] | None = Field(default=None, sa_column=json(nullable=True))
