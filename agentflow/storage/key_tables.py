"""The table of the keys by which others call over the network.

Owns the shape of the rows, as tables.py does for the runs.
"""

from datetime import datetime

from sqlalchemy import CheckConstraint, Column, Index, LargeBinary, text
from sqlmodel import Field, SQLModel

from agentflow.domain.api_key import Role
from agentflow.storage.columns import moment, one_of


class ApiKeyRow(SQLModel, table=True):
    """A key: found by ``public_id``, proved by the hash of its secret. Of the valid ones a name is one's own."""

    __tablename__ = "api_key"
    __table_args__ = (
        one_of("role", Role),
        CheckConstraint("(revoked_at IS NULL) = (revoked_by IS NULL)", name="revoked_by_somebody"),
        Index("api_key_name", "name", unique=True, postgresql_where=text("revoked_at IS NULL")),
    )
    public_id: str = Field(primary_key=True)
    secret_sha256: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
    name: str
    role: str
    project: str | None = None
    created_at: datetime = Field(sa_column=moment(now=True))
    created_by: str
    expires_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    revoked_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
    revoked_by: str | None = None
    last_used_at: datetime | None = Field(default=None, sa_column=moment(nullable=True))
