"""The table of the answers that were given under idempotency keys.

Owns the shape of the rows, as tables.py does for the runs.
"""

from datetime import datetime

from sqlalchemy import CheckConstraint, Column, ForeignKey, Index, LargeBinary, Text
from sqlmodel import Field, SQLModel

from agentflow.storage.columns import moment


class ApiReplyRow(SQLModel, table=True):
    """A request that a caller gave a key of its own; without ``status`` it is being done, or its process ended."""

    __tablename__ = "api_reply"
    __table_args__ = (
        CheckConstraint("status IS NOT NULL OR (location IS NULL AND body IS NULL)", name="said_with_status"),
        Index("api_reply_begun_at", "begun_at"),
    )
    public_id: str = Field(sa_column=Column(Text, ForeignKey("api_key.public_id"), primary_key=True))
    idempotency_key: str = Field(primary_key=True)
    request_sha256: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    begun_at: datetime = Field(sa_column=moment(now=True))
    status: int | None = None
    location: str | None = None
    body: str | None = None
