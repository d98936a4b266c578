"""The tables of what stays when runs go: tombstones, folded usage, and the signed checkpoints over both.

Owns the shape of the rows, as tables.py does for the runs.
"""

from datetime import date, datetime
from uuid import UUID

from sqlalchemy import (
    Column,
    Index,
    Integer,
    LargeBinary,
    text,
)
from sqlmodel import Field, SQLModel

from agentflow.storage.columns import count, moment


class TombstoneRow(SQLModel, table=True):
    """What stays of a run that was pruned: who it was, how it ended, its seal and what it used.

    ``has_content`` stands until the run's content is known to be gone from the store; ``content_tried_at`` is when it
    last resisted.
    """

    __tablename__ = "tombstone"
    __table_args__ = (
        Index("tombstone_unsigned", "pruned_at", postgresql_where=text("checkpoint IS NULL")),
        Index(
            "tombstone_content", text("content_tried_at NULLS FIRST"), "pruned_at", postgresql_where=text("has_content")
        ),
        Index("tombstone_pruned_at", "pruned_at", "run_id"),
    )
    run_id: UUID = Field(primary_key=True)
    project: str
    plan_name: str
    plan_fingerprint: str
    state: str
    created_at: datetime = Field(sa_column=moment())
    ended_at: datetime = Field(sa_column=moment())
    round: int
    seal: str
    event_count: int
    event_head: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    input_tokens: int = Field(sa_column=count())
    output_tokens: int = Field(sa_column=count())
    usd_nano: int = Field(sa_column=count())
    pruned_by: str
    pruned_at: datetime = Field(sa_column=moment(now=True))
    checkpoint: int | None = None
    has_content: bool = Field(default=True, sa_column_kwargs={"server_default": text("true")})
    content_tried_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))


class FoldedUsageRow(SQLModel, table=True):
    """What pruned runs used, by project, directive ('' for none) and UTC day: budgets must never see less."""

    __tablename__ = "folded_usage"
    project: str = Field(primary_key=True)
    directive: str = Field(primary_key=True)
    day: date = Field(primary_key=True)
    calls: int = Field(sa_column=count())
    input_tokens: int = Field(sa_column=count())
    output_tokens: int = Field(sa_column=count())
    cached_tokens: int = Field(sa_column=count())
    reasoning_tokens: int = Field(sa_column=count())
    usd_nano: int = Field(sa_column=count())


class CheckpointRow(SQLModel, table=True):
    """A signed checkpoint as it was appended to the file outside: its number, its hash and how much it covers."""

    __tablename__ = "checkpoint"
    number: int = Field(sa_column=Column(Integer, primary_key=True, autoincrement=False, nullable=False))
    sha256: str
    leaves: int
    signed_at: datetime = Field(sa_column=moment(now=True))
