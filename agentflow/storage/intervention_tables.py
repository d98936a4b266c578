"""The table of what a person told the model calls of a run on the way.

Owns the shape of the rows, as tables.py does for the runs. The text itself lies in the content store.
"""

from datetime import datetime
from uuid import UUID

from sqlalchemy import BigInteger, Column, Identity, Index
from sqlmodel import Field, SQLModel

from agentflow.storage.columns import moment, run_key


class GuidanceRow(SQLModel, table=True):
    """A text for the next model call of a run, or of one step of it.

    ``taken_by`` is the attempt that first says it; the later ones of its step say it again.
    """

    __tablename__ = "guidance"
    __table_args__ = (Index("guidance_run_id", "run_id", "id"),)
    id: int | None = Field(default=None, sa_column=Column(BigInteger, Identity(always=True), primary_key=True))
    run_id: UUID = Field(sa_column=run_key())
    step_key: str | None = None
    sha256: str
    bytes: int
    actor: str
    at: datetime = Field(sa_column=moment(now=True))
    taken_by: UUID | None = None
