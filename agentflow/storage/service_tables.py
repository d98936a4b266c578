"""The tables of what works beside the runs: workers and leaders, stored plans and their schedules.

Owns the shape of the rows, as tables.py does for the runs.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    Column,
    DateTime,
    ForeignKey,
    Index,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlmodel import Field, SQLModel

from agentflow.domain.schedule import FiringCause, FiringState, Overlap, ScheduleKind
from agentflow.storage.columns import json, moment, one_of


class WorkerRow(SQLModel, table=True):
    """A worker as its dispatcher process last told of it: what it serves and when it last took a message.

    ``cpu_seconds`` and ``resident_bytes`` are of all its processes; null where the system does not tell.
    """

    __tablename__ = "worker"
    __table_args__ = ({"postgresql_with": {"fillfactor": 50}},)
    name: str = Field(primary_key=True)
    pid: int
    version: str
    pool: str
    concurrency: int
    queues: list[str] = Field(sa_column=json())
    started_at: datetime = Field(sa_column=moment())
    seen_at: datetime = Field(sa_column=moment())
    consumed: int = Field(default=0, sa_column=Column(BigInteger, nullable=False, server_default=text("0")))
    consumed_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    is_draining: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    ended_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    cpu_seconds: float | None = None
    resident_bytes: int | None = Field(default=None, sa_column=Column(BigInteger, nullable=True))


class StoredPlanRow(SQLModel, table=True):
    """A version of a plan that was pushed under a name; its content lies in the store under its fingerprint."""

    __tablename__ = "stored_plan"
    project: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    version: int = Field(primary_key=True)
    fingerprint: str = Field(foreign_key="plan.fingerprint")
    pushed_by: str
    pushed_at: datetime = Field(sa_column=moment(now=True))


class ScheduleRow(SQLModel, table=True):
    """When a stored plan is run by itself. ``next_at`` is the next nominal due time, ``fire_at`` with jitter."""

    __tablename__ = "schedule"
    __table_args__ = (
        UniqueConstraint("project", "name"),
        one_of("kind", ScheduleKind),
        one_of("overlap", Overlap),
        Index("schedule_due", "fire_at", postgresql_where=text("is_enabled AND fire_at IS NOT NULL")),
    )
    id: UUID = Field(primary_key=True)
    project: str
    name: str
    kind: str
    spec: dict[str, Any] = Field(sa_column=json())
    time_zone: str
    jitter_seconds: float
    overlap: str
    max_queued: int
    catch_up_seconds: float
    plan_name: str
    plan_version: int | None = None
    vars: dict[str, Any] = Field(sa_column=json())
    budget: dict[str, Any] | None = Field(default=None, sa_column=json(nullable=True))
    directive: str | None = None
    is_enabled: bool = True
    next_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    fire_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    held_since: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    created_by: str
    created_at: datetime = Field(sa_column=moment(now=True))
    updated_at: datetime = Field(sa_column=moment(now=True))
    version: int = 1


class FiringRow(SQLModel, table=True):
    """What became of one nominal due time of a schedule; its key makes sure that none fires twice."""

    __tablename__ = "firing"
    __table_args__ = (
        one_of("state", FiringState),
        one_of("cause", FiringCause),
        Index("firing_open", "schedule_id", "due_at", postgresql_where=text("state IN ('due', 'queued', 'starting')")),
        Index("firing_run_id", "run_id"),
        Index("firing_noted_at", "noted_at"),
    )
    schedule_id: UUID = Field(
        sa_column=Column(Uuid, ForeignKey("schedule.id", ondelete="CASCADE"), primary_key=True, nullable=False)
    )
    due_at: datetime = Field(sa_column=Column(DateTime(timezone=True), primary_key=True, nullable=False))
    cause: str
    state: str
    run_id: UUID | None = None
    reason: dict[str, Any] | None = Field(default=None, sa_column=json(nullable=True))
    noted_at: datetime = Field(sa_column=moment(now=True))


class BeatEntryRow(SQLModel, table=True):
    """When an entry of a user's own beat_schedule last fired, for whichever beat comes next."""

    __tablename__ = "beat_entry"
    name: str = Field(primary_key=True)
    last_run_at: datetime = Field(sa_column=moment())
    total_run_count: int


class LeaderRow(SQLModel, table=True):
    """Who leads a service, for which term, until when."""

    __tablename__ = "leader"
    service: str = Field(primary_key=True)
    holder: str
    term: int = Field(sa_column=Column(BigInteger, nullable=False))
    expires_at: datetime = Field(sa_column=moment())
