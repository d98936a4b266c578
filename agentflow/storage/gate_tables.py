"""The tables of what a run waits for from outside: gates with their decisions, and signals.

Owns the shape of the rows, as tables.py does for the runs.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Identity, Index, UniqueConstraint, Uuid, text
from sqlmodel import Field, SQLModel

from agentflow.domain.gate import GateKind, GateState
from agentflow.storage.columns import json, moment, one_of, run_key, step_key


class GateRow(SQLModel, table=True):
    """A gate that a step opened in a round of its run; ``terms`` say who may decide, ``facts`` what it is about."""

    __tablename__ = "gate"
    __table_args__ = (
        one_of("kind", GateKind),
        one_of("state", GateState),
        CheckConstraint("(decided_at IS NOT NULL) = (state <> 'open')", name="decided_iff_closed"),
        UniqueConstraint("step_id", "round"),
        Index("gate_open", "opened_at", postgresql_where=text("state = 'open'")),
        Index("gate_run_id", "run_id"),
    )
    id: UUID = Field(primary_key=True)
    run_id: UUID = Field(sa_column=run_key())
    step_id: UUID = Field(sa_column=step_key())
    kind: str
    state: str
    round: int
    terms: dict[str, Any] = Field(sa_column=json())
    facts: dict[str, Any] = Field(sa_column=json())
    plan_fingerprint: str
    opened_at: datetime = Field(sa_column=moment(now=True))
    expires_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    is_escalated: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    decided_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))


class GateDecisionRow(SQLModel, table=True):
    """What one person said to a gate; once each."""

    __tablename__ = "gate_decision"
    gate_id: UUID = Field(
        sa_column=Column(Uuid, ForeignKey("gate.id", ondelete="CASCADE"), primary_key=True, nullable=False)
    )
    actor: str = Field(primary_key=True)
    verdict: str
    why: str | None = None
    given: dict[str, Any] | None = Field(default=None, sa_column=json(nullable=True))
    at: datetime = Field(sa_column=moment(now=True))


class SignalRow(SQLModel, table=True):
    """A signal that was sent to a run; ``taken_by`` is the step that it ended the wait of."""

    __tablename__ = "signal"
    __table_args__ = (
        Index("signal_run_id", "run_id"),
        Index("signal_waiting", "run_id", "name", "id", postgresql_where=text("taken_by IS NULL")),
    )
    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    run_id: UUID = Field(sa_column=run_key())
    name: str
    data: Any = Field(default=None, sa_column=json(nullable=True))
    actor: str
    at: datetime = Field(sa_column=moment(now=True))
    taken_by: UUID | None = None
