"""The tables of agentflow, with the CHECKs and partial indexes that carry its rules.

Owns the shape of the rows. Rows become domain objects at the storage door; these models validate nothing and are
never handed upwards. What holds under concurrency stands in sql/; how the shape changes stands in migrations/.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    ForeignKey,
    Identity,
    Index,
    LargeBinary,
    UniqueConstraint,
    Uuid,
    text,
)
from sqlmodel import Field, SQLModel

from agentflow.domain.state import FINAL_ATTEMPT_STATES, FINAL_RUN_STATES, AttemptState, RunState, StepState
from agentflow.storage import (  # noqa: F401 - they belong to the same database
    gate_tables,
    intervention_tables,
    job_tables,
    key_tables,
    reply_tables,
    retention_tables,
    service_tables,
    tally_tables,
    webhook_tables,
)
from agentflow.storage.columns import as_text, count, ended_iff_final, json, moment, one_of, run_key, sql_list, step_key


class PlanRow(SQLModel, table=True):
    """A plan as it was accepted, stored once per fingerprint. Holds hashes and sizes of content, never content."""

    __tablename__ = "plan"
    __table_args__ = (Index("plan_name", "name"),)
    fingerprint: str = Field(primary_key=True)
    name: str
    document: dict[str, Any] = Field(sa_column=json())
    created_at: datetime = Field(sa_column=moment(now=True))


class RunRow(SQLModel, table=True):
    """What a run is; written once at submit. ``forked_from`` is no foreign key: a fork outlives its origin.

    A child run names the run and the step that it is part of, and all runs above it in ``ancestors``. ``child_plans``
    are the stored plans that its child runs, and theirs, name: ``{name: {version, fingerprint}}``.
    """

    __tablename__ = "run"
    __table_args__ = (
        UniqueConstraint("project", "idempotency_key"),
        Index("run_project_created_at", "project", "created_at", "id"),
        Index("run_created_at", "created_at", "id"),
        Index("run_plan_fingerprint", "plan_fingerprint"),
        Index("run_forked_from", "forked_from", postgresql_where=text("forked_from IS NOT NULL")),
        Index("run_parent_step", "parent_run", "parent_step", postgresql_where=text("parent_run IS NOT NULL")),
        Index("run_ancestors", "ancestors", postgresql_using="gin", postgresql_where=text("ancestors IS NOT NULL")),
    )
    id: UUID = Field(primary_key=True)
    project: str
    plan_fingerprint: str = Field(foreign_key="plan.fingerprint")
    vars: dict[str, Any] = Field(sa_column=json())
    idempotency_key: str | None = None
    request_sha256: str
    actor: str
    created_at: datetime = Field(sa_column=moment(now=True))
    directive: str | None = None
    forked_from: UUID | None = None
    forked_at_step: str | None = None
    parent_run: UUID | None = None
    parent_step: str | None = None
    ancestors: list[str] | None = Field(default=None, sa_column=json(nullable=True))
    child_plans: dict[str, Any] | None = Field(default=None, sa_column=json(nullable=True))
    mode: str = Field(default="auto", sa_column_kwargs={"server_default": text("'auto'")})


class RunBudgetRow(SQLModel, table=True):
    """The caps of a run as they stand now; null means none. Money is in nano-dollars."""

    __tablename__ = "run_budget"
    run_id: UUID = Field(sa_column=run_key(primary_key=True))
    steps: int | None = Field(default=None, sa_column=count(nullable=True))
    tokens: int | None = Field(default=None, sa_column=count(nullable=True))
    usd_nano: int | None = Field(default=None, sa_column=count(nullable=True))
    active_seconds: float | None = None


class RunStateRow(SQLModel, table=True):
    """How a run stands: narrow and hot. Claims share its lock; cancel, failing and sinks take it for themselves.

    ``exhausted`` holds the budgets for which the run rests, ``paused`` who paused it and why. It rests since
    ``rests_since`` while either stands; ``rested_seconds`` is how long it rested or had ended in all, without that,
    and ``rested_until`` the last moment that is counted in it.
    ``checkpoint`` numbers the signed checkpoint that holds its end.
    """

    __tablename__ = "run_state"
    __table_args__ = (
        one_of("state", RunState),
        ended_iff_final(FINAL_RUN_STATES),
        CheckConstraint("open_sinks >= 0", name="open_sinks_not_negative"),
        CheckConstraint(
            "(rests_since IS NOT NULL) = (exhausted IS NOT NULL OR paused IS NOT NULL)", name="rests_for_a_reason"
        ),
        Index("run_state_ended", "ended_at", postgresql_where=text("ended_at IS NOT NULL")),
        Index("run_state_unsigned", "ended_at", postgresql_where=text("ended_at IS NOT NULL AND checkpoint IS NULL")),
        Index("run_state_open", "run_id", postgresql_where=text(f"state NOT IN ({sql_list(FINAL_RUN_STATES)})")),
        Index("run_state_not_done", "state", postgresql_where=text("state IN ('cancelled', 'failed', 'partial')")),
        {"postgresql_with": {"fillfactor": 50}},
    )
    run_id: UUID = Field(sa_column=run_key(primary_key=True))
    state: str
    reason: dict[str, Any] | None = Field(default=None, sa_column=json(nullable=True))
    round: int = 1
    open_sinks: int
    started_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    ended_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    event_sequence: int = 0
    event_head: bytes | None = Field(default=None, sa_column=Column(LargeBinary, nullable=True))
    exhausted: list[dict[str, Any]] | None = Field(default=None, sa_column=json(nullable=True))
    rests_since: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    rested_seconds: float = Field(default=0.0, sa_column_kwargs={"server_default": text("0")})
    rested_until: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    paused: dict[str, Any] | None = Field(default=None, sa_column=json(nullable=True))
    checkpoint: int | None = None
    priority: int = Field(default=0, sa_column_kwargs={"server_default": text("0")})


class StepRow(SQLModel, table=True):
    """One step of a run. ``sent_at`` is the delivery note: set while a doorbell for the step should be on its way.

    ``ticket_at`` is the place in time that its rate limit gave it, until an attempt has used it. ``joint_losses``
    counts the attempts that were lost together with others on one worker, for which nobody is to blame yet.

    A foreach knows how many items it made (``children``) and how many of them may have begun (``released``); a step
    that was made for one names the foreach (``parent``) and the item, and ``awaits_turn`` while one more need of it
    stands for the turn of its item. ``choice`` is the label that a decision chose. ``timeout_seconds`` is a person's
    word over the plan's.
    """

    __tablename__ = "step"
    __table_args__ = (
        UniqueConstraint("run_id", "key"),
        one_of("state", StepState),
        CheckConstraint("needs_open >= 0", name="needs_open_not_negative"),
        CheckConstraint("state <> 'ready' OR needs_open = 0", name="ready_has_its_needs"),
        CheckConstraint("sent_at IS NULL OR state IN ('ready', 'retrying')", name="sent_only_while_due"),
        Index("step_due", "not_before", postgresql_where=text("state IN ('ready', 'retrying')")),
        Index(
            "step_poisoned", "run_id", postgresql_where=text("state = 'failed' AND (reason ->> 'code') = 'poisoned'")
        ),
        Index("step_suspected", "joint_losses", postgresql_where=text("joint_losses > 0")),
        Index("step_child", "run_id", "parent", "item", postgresql_where=text("parent IS NOT NULL")),
        Index("step_turn", "run_id", "parent", "item", postgresql_where=text("awaits_turn")),
        Index("step_awaits_run", "run_id", postgresql_where=text("state = 'held' AND action = 'run'")),
        Index("step_held_due", "not_before", postgresql_where=text("state = 'held' AND not_before IS NOT NULL")),
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
    run_id: UUID = Field(sa_column=run_key())
    key: str
    position: int
    action: str
    queue: str
    when_rule: str
    is_sink: bool
    state: str
    reason: dict[str, Any] | None = Field(default=None, sa_column=json(nullable=True))
    needs_open: int
    needs_failed: int = 0
    needs_skipped: int = 0
    needs_cancelled: int = 0
    not_before: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    sent_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    attempts: int = 0
    failures: int = 0
    losses: int = 0
    postponed: int = Field(default=0, sa_column_kwargs={"server_default": text("0")})
    exit_code: int | None = None
    result: Any = Field(default=None, sa_column=json(nullable=True))
    event_sequence: int = 0
    event_head: bytes | None = Field(default=None, sa_column=Column(LargeBinary, nullable=True))
    slot_key: str | None = None
    slot_limit: int | None = None
    rate_key: str | None = None
    rate_interval_seconds: float | None = None
    rate_burst: int | None = None
    ticket_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    joint_losses: int = Field(default=0, sa_column_kwargs={"server_default": text("0")})
    parent: str | None = None
    item: int | None = None
    awaits_turn: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    children: int | None = None
    released: int | None = None
    choice: str | None = None
    needs_succeeded: int = Field(default=0, sa_column_kwargs={"server_default": text("0")})
    needs_untaken: int = Field(default=0, sa_column_kwargs={"server_default": text("0")})
    priority: int = Field(default=0, sa_column_kwargs={"server_default": text("0")})
    timeout_seconds: float | None = None


class EdgeRow(SQLModel, table=True):
    """``to_step`` needs ``from_step``; where that is a decision, only ``labels`` take it."""

    __tablename__ = "edge"
    __table_args__ = (Index("edge_to_step", "to_step"),)
    from_step: UUID = Field(sa_column=step_key(primary_key=True))
    to_step: UUID = Field(sa_column=step_key(primary_key=True))
    labels: list[str] | None = Field(default=None, sa_column=json(nullable=True))


class AttemptRow(SQLModel, table=True):
    """One try of one step. ``claim_token`` is the fence: nobody without it extends or settles the attempt.

    A stop that is requested cancels it; a yield that is requested gives it back, for its run was paused. ``due_at`` is
    since when its step had been due.
    """

    __tablename__ = "attempt"
    __table_args__ = (
        UniqueConstraint("step_id", "number"),
        one_of("state", AttemptState),
        ended_iff_final(FINAL_ATTEMPT_STATES),
        # The rule "at most one attempt of a step is running" as the database keeps it.
        Index("attempt_one_running", "step_id", unique=True, postgresql_where=text("state = 'running'")),
        Index("attempt_run_id", "run_id"),
        Index("attempt_lost", "lease_until", postgresql_where=text("state = 'lost'")),
        Index("attempt_reserving", "run_id", postgresql_where=text("state = 'running' AND reserved IS NOT NULL")),
        {"postgresql_with": {"fillfactor": 70}},
    )
    id: UUID = Field(primary_key=True)
    run_id: UUID = Field(sa_column=run_key())
    step_id: UUID = Field(sa_column=step_key())
    number: int
    state: str
    claim_token: UUID
    worker: str
    lease_until: datetime = Field(sa_column=moment())
    started_at: datetime = Field(sa_column=moment())
    ended_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    is_stop_requested: bool = False
    exit_code: int | None = None
    signal: int | None = None
    reason: dict[str, Any] | None = Field(default=None, sa_column=json(nullable=True))
    retry_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    reserved: dict[str, Any] | None = Field(default=None, sa_column=json(nullable=True))
    is_yield_requested: bool = Field(default=False, sa_column_kwargs={"server_default": text("false")})
    due_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))


class SlotRow(SQLModel, table=True):
    """One of the places that a concurrency key has; free while no attempt holds it."""

    __tablename__ = "slot"
    __table_args__ = (UniqueConstraint("attempt_id"), {"postgresql_with": {"fillfactor": 50}})
    key: str = Field(primary_key=True)
    number: int = Field(primary_key=True)
    attempt_id: UUID | None = Field(
        default=None, sa_column=Column(Uuid, ForeignKey("attempt.id", ondelete="SET NULL"), nullable=True)
    )
    held_since: datetime | None = Field(default=None, sa_column=moment(nullable=True))


class RateRow(SQLModel, table=True):
    """When the next ticket of a rate key is free."""

    __tablename__ = "rate"
    __table_args__ = ({"postgresql_with": {"fillfactor": 50}},)
    key: str = Field(primary_key=True)
    next_at: datetime = Field(sa_column=moment())


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
    run_id: UUID = Field(sa_column=run_key())
    step_id: UUID
    project: str
    directive: str | None = None
    provider: str
    model: str
    input_tokens: int = Field(sa_column=count())
    output_tokens: int = Field(sa_column=count())
    cached_tokens: int = Field(sa_column=count())
    reasoning_tokens: int = Field(sa_column=count())
    usd_nano: int | None = Field(default=None, sa_column=count(nullable=True))
    is_estimated: bool
    finish_reason: str | None = None
    problem: str | None = None
    started_at: datetime = Field(sa_column=moment())
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
    run_id: UUID
    step_id: UUID = Field(sa_column=step_key())
    bytes: int = Field(sa_column=Column(BigInteger, nullable=False))
    bytes_seen: int = Field(sa_column=Column(BigInteger, nullable=False))
    sha256: str
    media_type: str
    is_cut: bool = False


class AuditEventRow(SQLModel, table=True):
    """One audit event. No foreign keys: events outlive the rows they speak of, and a migration's way down."""

    __tablename__ = "audit_event"
    __table_args__ = (
        UniqueConstraint("run_id", "step_id", "sequence", postgresql_nulls_not_distinct=True),
        Index("audit_event_run", "run_id", "id"),
    )
    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    run_id: UUID
    step_id: UUID | None = None
    sequence: int
    at: datetime = Field(sa_column=moment())
    actor: str
    action: str
    subject: str
    moved: dict[str, Any] = Field(sa_column=json())
    reason: dict[str, Any] | None = Field(default=None, sa_column=json(nullable=True))
    verdict: str | None = None
    facts: dict[str, Any] = Field(sa_column=json())
    mac: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class InstallationRow(SQLModel, table=True):
    """The one row that says which content store and which audit key belong to this database.

    It also carries the head of the installation's own audit chain, and who put all of it under maintenance.
    """

    __tablename__ = "installation"
    __table_args__ = (CheckConstraint("id = 1", name="only_one"),)
    id: int = Field(default=1, primary_key=True)
    store_id: UUID
    audit_key_fingerprint: str
    created_at: datetime = Field(sa_column=moment(now=True))
    maintenance: dict[str, Any] | None = Field(default=None, sa_column=json(nullable=True))
    event_sequence: int = Field(default=0, sa_column_kwargs={"server_default": text("0")})
    event_head: bytes | None = Field(default=None, sa_column=Column(LargeBinary, nullable=True))


as_text()
