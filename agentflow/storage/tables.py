"""The tables of agentflow, with the CHECKs and partial indexes that carry its rules.

Owns the shape of the rows. Rows become domain objects at the storage door; these models validate nothing and are
never handed upwards. What holds under concurrency stands in sql/; how the shape changes stands in migrations/.
"""

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    DateTime,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    Text,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlmodel import AutoString, Field, SQLModel

from agentflow.domain.state import (
    FINAL_ATTEMPT_STATES,
    FINAL_RUN_STATES,
    AttemptState,
    RunState,
    StepState,
)

NAMING = {
    "ix": "%(table_name)s_%(column_0_N_name)s",
    "uq": "%(table_name)s_%(column_0_N_name)s_unique",
    "ck": "%(table_name)s_%(constraint_name)s",
    "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    "pk": "%(table_name)s_pkey",
}
SQLModel.metadata.naming_convention = NAMING


def sql_list(states: Iterable[StrEnum]) -> str:
    """Write states as the inside of an SQL IN list, in a stable order."""
    return ", ".join(f"'{state}'" for state in sorted(states))


def _one_of(column: str, states: Iterable[StrEnum]) -> CheckConstraint:
    return CheckConstraint(f"{column} IN ({sql_list(states)})", name=f"{column}_known")


def _ended_iff_final(states: Iterable[StrEnum]) -> CheckConstraint:
    return CheckConstraint(f"(ended_at IS NOT NULL) = (state IN ({sql_list(states)}))", name="ended_iff_final")


def _moment(*, nullable: bool = False, now: bool = False) -> Any:
    return Column(DateTime(timezone=True), nullable=nullable, server_default=text("now()") if now else None)


def _json(*, nullable: bool = False) -> Any:
    return Column(JSONB(none_as_null=True), nullable=nullable)


def _count(*, nullable: bool = False) -> Any:
    return Column(BigInteger, nullable=nullable)


def _run_key(*, primary_key: bool = False) -> Any:
    return Column(Uuid, ForeignKey("run.id", ondelete="CASCADE"), primary_key=primary_key, nullable=False)


def _step_key(*, primary_key: bool = False) -> Any:
    return Column(Uuid, ForeignKey("step.id", ondelete="CASCADE"), primary_key=primary_key, nullable=False)


class PlanRow(SQLModel, table=True):
    """A plan as it was accepted, stored once per fingerprint. Holds hashes and sizes of content, never content."""

    __tablename__ = "plan"
    fingerprint: str = Field(primary_key=True)
    name: str
    document: dict[str, Any] = Field(sa_column=_json())
    created_at: datetime = Field(sa_column=_moment(now=True))


class RunRow(SQLModel, table=True):
    """What a run is; written once at submit."""

    __tablename__ = "run"
    __table_args__ = (
        UniqueConstraint("project", "idempotency_key"),
        Index("run_project_created_at", "project", "created_at", "id"),
        Index("run_created_at", "created_at", "id"),
    )
    id: UUID = Field(primary_key=True)
    project: str
    plan_fingerprint: str = Field(foreign_key="plan.fingerprint")
    vars: dict[str, Any] = Field(sa_column=_json())
    idempotency_key: str | None = None
    request_sha256: str
    actor: str
    created_at: datetime = Field(sa_column=_moment(now=True))
    directive: str | None = None


class RunBudgetRow(SQLModel, table=True):
    """The caps of a run as they stand now; null means none. Money is in nano-dollars."""

    __tablename__ = "run_budget"
    run_id: UUID = Field(sa_column=_run_key(primary_key=True))
    steps: int | None = Field(default=None, sa_column=_count(nullable=True))
    tokens: int | None = Field(default=None, sa_column=_count(nullable=True))
    usd_nano: int | None = Field(default=None, sa_column=_count(nullable=True))
    active_seconds: float | None = None


class RunStateRow(SQLModel, table=True):
    """How a run stands: narrow and hot. Claims share its lock; cancel, failing and sinks take it for themselves.

    ``exhausted`` holds the budgets for which the run rests. ``rested_seconds`` is how long it rested or had ended in
    all, without the rest since ``rests_since``.
    """

    __tablename__ = "run_state"
    __table_args__ = (
        _one_of("state", RunState),
        _ended_iff_final(FINAL_RUN_STATES),
        CheckConstraint("open_sinks >= 0", name="open_sinks_not_negative"),
        Index("run_state_open", "run_id", postgresql_where=text(f"state NOT IN ({sql_list(FINAL_RUN_STATES)})")),
        {"postgresql_with": {"fillfactor": 50}},
    )
    run_id: UUID = Field(sa_column=_run_key(primary_key=True))
    state: str
    reason: dict[str, Any] | None = Field(default=None, sa_column=_json(nullable=True))
    round: int = 1
    open_sinks: int
    started_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    ended_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    event_sequence: int = 0
    event_head: bytes | None = Field(default=None, sa_column=Column(LargeBinary, nullable=True))
    exhausted: list[dict[str, Any]] | None = Field(default=None, sa_column=_json(nullable=True))
    rests_since: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    rested_seconds: float = Field(default=0.0, sa_column_kwargs={"server_default": text("0")})


class StepRow(SQLModel, table=True):
    """One step of a run. ``sent_at`` is the delivery note: set while a doorbell for the step should be on its way.

    ``ticket_at`` is the place in time that its rate limit gave it, until an attempt has used it.
    """

    __tablename__ = "step"
    __table_args__ = (
        UniqueConstraint("run_id", "key"),
        _one_of("state", StepState),
        CheckConstraint("needs_open >= 0", name="needs_open_not_negative"),
        CheckConstraint("state <> 'ready' OR needs_open = 0", name="ready_has_its_needs"),
        CheckConstraint("sent_at IS NULL OR state IN ('ready', 'retrying')", name="sent_only_while_due"),
        Index("step_due", "not_before", postgresql_where=text("state IN ('ready', 'retrying')")),
        Index(
            "step_limited",
            "slot_key",
            "rate_key",
            postgresql_where=text(
                "state IN ('ready', 'retrying', 'running') AND (slot_key IS NOT NULL OR rate_key IS NOT NULL)"
            ),
        ),
        {"postgresql_with": {"fillfactor": 70}},
    )
    id: UUID = Field(primary_key=True)
    run_id: UUID = Field(sa_column=_run_key())
    key: str
    position: int
    action: str
    queue: str
    when_rule: str
    is_sink: bool
    state: str
    reason: dict[str, Any] | None = Field(default=None, sa_column=_json(nullable=True))
    needs_open: int
    needs_failed: int = 0
    needs_skipped: int = 0
    needs_cancelled: int = 0
    not_before: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    sent_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    attempts: int = 0
    failures: int = 0
    losses: int = 0
    postponed: int = Field(default=0, sa_column_kwargs={"server_default": text("0")})
    exit_code: int | None = None
    result: Any = Field(default=None, sa_column=_json(nullable=True))
    event_sequence: int = 0
    event_head: bytes | None = Field(default=None, sa_column=Column(LargeBinary, nullable=True))
    slot_key: str | None = None
    slot_limit: int | None = None
    rate_key: str | None = None
    rate_interval_seconds: float | None = None
    rate_burst: int | None = None
    ticket_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True))


class EdgeRow(SQLModel, table=True):
    """``to_step`` needs ``from_step``."""

    __tablename__ = "edge"
    __table_args__ = (Index("edge_to_step", "to_step"),)
    from_step: UUID = Field(sa_column=_step_key(primary_key=True))
    to_step: UUID = Field(sa_column=_step_key(primary_key=True))


class AttemptRow(SQLModel, table=True):
    """One try of one step. ``claim_token`` is the fence: nobody without it extends or settles the attempt."""

    __tablename__ = "attempt"
    __table_args__ = (
        UniqueConstraint("step_id", "number"),
        _one_of("state", AttemptState),
        _ended_iff_final(FINAL_ATTEMPT_STATES),
        # The rule "at most one attempt of a step is running" as the database keeps it.
        Index("attempt_one_running", "step_id", unique=True, postgresql_where=text("state = 'running'")),
        Index("attempt_run_id", "run_id"),
        Index("attempt_reserving", "run_id", postgresql_where=text("state = 'running' AND reserved IS NOT NULL")),
        {"postgresql_with": {"fillfactor": 70}},
    )
    id: UUID = Field(primary_key=True)
    run_id: UUID = Field(sa_column=_run_key())
    step_id: UUID = Field(sa_column=_step_key())
    number: int
    state: str
    claim_token: UUID
    worker: str
    lease_until: datetime = Field(sa_column=_moment())
    started_at: datetime = Field(sa_column=_moment())
    ended_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    is_stop_requested: bool = False
    exit_code: int | None = None
    signal: int | None = None
    reason: dict[str, Any] | None = Field(default=None, sa_column=_json(nullable=True))
    retry_at: datetime | None = Field(default=None, sa_column=_moment(nullable=True))
    reserved: dict[str, Any] | None = Field(default=None, sa_column=_json(nullable=True))


class SlotRow(SQLModel, table=True):
    """One of the places that a concurrency key has; free while no attempt holds it."""

    __tablename__ = "slot"
    __table_args__ = (UniqueConstraint("attempt_id"), {"postgresql_with": {"fillfactor": 50}})
    key: str = Field(primary_key=True)
    number: int = Field(primary_key=True)
    attempt_id: UUID | None = Field(
        default=None, sa_column=Column(Uuid, ForeignKey("attempt.id", ondelete="SET NULL"), nullable=True)
    )
    held_since: datetime | None = Field(default=None, sa_column=_moment(nullable=True))


class RateRow(SQLModel, table=True):
    """When the next ticket of a rate key is free."""

    __tablename__ = "rate"
    __table_args__ = ({"postgresql_with": {"fillfactor": 50}},)
    key: str = Field(primary_key=True)
    next_at: datetime = Field(sa_column=_moment())


class LlmCallRow(SQLModel, table=True):
    """What one attempt's model call used: counts, hashes and times, never what was said.

    ``started_at`` is the attempt's: it places the call in a day. ``usd_nano`` is null where the price is unknown.
    """

    __tablename__ = "llm_call"
    __table_args__ = (
        Index("llm_call_run_id", "run_id"),
        Index("llm_call_project_started_at", "project", "started_at"),
        Index("llm_call_started_at", "started_at"),
    )
    attempt_id: UUID = Field(
        sa_column=Column(Uuid, ForeignKey("attempt.id", ondelete="CASCADE"), primary_key=True, nullable=False)
    )
    run_id: UUID = Field(sa_column=_run_key())
    step_id: UUID = Field(sa_column=_step_key())
    project: str
    directive: str | None = None
    provider: str
    model: str
    input_tokens: int = Field(sa_column=_count())
    output_tokens: int = Field(sa_column=_count())
    cached_tokens: int = Field(sa_column=_count())
    reasoning_tokens: int = Field(sa_column=_count())
    usd_nano: int | None = Field(default=None, sa_column=_count(nullable=True))
    is_estimated: bool
    finish_reason: str | None = None
    problem: str | None = None
    started_at: datetime = Field(sa_column=_moment())
    duration_seconds: float
    request_sha256: str | None = None
    answer_sha256: str | None = None


class ArtifactRow(SQLModel, table=True):
    """A file that an attempt produced: where it lies in the content store, its size and hash."""

    __tablename__ = "artifact"
    __table_args__ = (Index("artifact_step_id", "step_id"),)
    attempt_id: UUID = Field(
        sa_column=Column(Uuid, ForeignKey("attempt.id", ondelete="CASCADE"), primary_key=True, nullable=False)
    )
    name: str = Field(primary_key=True)
    kind: str
    run_id: UUID = Field(sa_column=_run_key())
    step_id: UUID = Field(sa_column=_step_key())
    bytes: int = Field(sa_column=Column(BigInteger, nullable=False))
    bytes_seen: int = Field(sa_column=Column(BigInteger, nullable=False))
    sha256: str
    media_type: str
    is_cut: bool = False


class AuditEventRow(SQLModel, table=True):
    """One audit event. No foreign keys: events outlive the rows they speak of, and a migration's way down."""

    __tablename__ = "audit_event"
    __table_args__ = (UniqueConstraint("run_id", "step_id", "sequence", postgresql_nulls_not_distinct=True),)
    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    run_id: UUID
    step_id: UUID | None = None
    sequence: int
    at: datetime = Field(sa_column=_moment())
    actor: str
    action: str
    subject: str
    moved: dict[str, Any] = Field(sa_column=_json())
    reason: dict[str, Any] | None = Field(default=None, sa_column=_json(nullable=True))
    verdict: str | None = None
    facts: dict[str, Any] = Field(sa_column=_json())
    mac: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class LeaderRow(SQLModel, table=True):
    """Who leads a service, for which term, until when."""

    __tablename__ = "leader"
    service: str = Field(primary_key=True)
    holder: str
    term: int = Field(sa_column=Column(BigInteger, nullable=False))
    expires_at: datetime = Field(sa_column=_moment())


class InstallationRow(SQLModel, table=True):
    """The one row that says which content store and which audit key belong to this database."""

    __tablename__ = "installation"
    __table_args__ = (CheckConstraint("id = 1", name="only_one"),)
    id: int = Field(default=1, primary_key=True)
    store_id: UUID
    audit_key_fingerprint: str
    created_at: datetime = Field(sa_column=_moment(now=True))


# One type for text: Postgres infers a parameter's type from where it stands, and a parameter that stands beside both
# varchar and text is refused.
for _table in SQLModel.metadata.tables.values():
    for _column in _table.columns:
        if isinstance(_column.type, AutoString):
            _column.type = Text()
