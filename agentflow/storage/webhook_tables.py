"""The tables of the webhooks: who is told, what of, and what became of it.

Owns the shape of the rows, as tables.py does for the runs.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, Column, ForeignKey, Index, LargeBinary, Text, text
from sqlmodel import Field, SQLModel

from agentflow.domain.webhook import DeliveryState, Disabled
from agentflow.storage.columns import json, moment, one_of


class WebhookRow(SQLModel, table=True):
    """A subscription. Its secret is no row's: it is derived from the audit key and ``salt``.

    Events above ``from_event`` are told. ``failing_since`` stands while no delivery goes well.
    """

    __tablename__ = "webhook"
    __table_args__ = (
        one_of("disabled_code", Disabled),
        CheckConstraint(
            "(disabled_at IS NULL) = (disabled_by IS NULL) AND (disabled_at IS NULL) = (disabled_code IS NULL)",
            name="disabled_by_somebody",
        ),
        CheckConstraint("(previous_salt IS NULL) = (previous_until IS NULL)", name="previous_ends"),
        Index("webhook_name", "project", "name", unique=True, postgresql_nulls_not_distinct=True),
        {"postgresql_with": {"fillfactor": 70}},
    )
    id: str = Field(primary_key=True)
    name: str
    project: str | None = None
    plan: str | None = None
    url: str
    types: list[str] = Field(sa_column=json())
    salt: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    previous_salt: bytes | None = Field(default=None, sa_column=Column(LargeBinary, nullable=True))
    previous_until: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    from_event: int = Field(sa_column=Column(BigInteger, nullable=False))
    created_at: datetime = Field(sa_column=moment(now=True))
    created_by: str
    disabled_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    disabled_by: str | None = None
    disabled_code: str | None = None
    failing_since: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    delivered_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))


class WebhookCursorRow(SQLModel, table=True):
    """The one row that says up to which event deliveries were made."""

    __tablename__ = "webhook_cursor"
    __table_args__ = (CheckConstraint("id = 1", name="only_one"),)
    id: int = Field(default=1, primary_key=True)
    event_id: int = Field(sa_column=Column(BigInteger, nullable=False))


class WebhookDeliveryRow(SQLModel, table=True):
    """Something that one webhook is told. ``attempts`` counts every try and fences it, ``tries`` those since a replay.

    Whoever tries moves ``next_at`` first: if he dies, somebody else tries again then. It outlives its run.
    """

    __tablename__ = "webhook_delivery"
    __table_args__ = (
        one_of("state", DeliveryState),
        CheckConstraint("(next_at IS NOT NULL) = (state = 'pending')", name="pending_has_a_time"),
        Index("webhook_delivery_due", "webhook_id", "next_at", postgresql_where=text("state = 'pending'")),
        Index("webhook_delivery_history", "webhook_id", "created_at", "id"),
        {"postgresql_with": {"fillfactor": 70}},
    )
    id: UUID = Field(primary_key=True)
    webhook_id: str = Field(sa_column=Column(Text, ForeignKey("webhook.id", ondelete="CASCADE"), nullable=False))
    type: str
    run_id: UUID | None = None
    event_id: int | None = Field(default=None, sa_column=Column(BigInteger, nullable=True))
    body: str
    state: str
    attempts: int = Field(default=0, sa_column_kwargs={"server_default": text("0")})
    tries: int = Field(default=0, sa_column_kwargs={"server_default": text("0")})
    created_at: datetime = Field(sa_column=moment(now=True))
    next_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    last_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    last_status: int | None = None
    duration_seconds: float | None = None
    problem: str | None = None
