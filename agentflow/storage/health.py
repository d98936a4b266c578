"""What `doctor` asks Postgres about itself: version, clock, revision, and who leads a service. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, func, select, text
from sqlmodel import col

from agentflow.storage import migrations
from agentflow.storage.service_tables import LeaderRow


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """``version_number`` is Postgres' own, 150004 for 15.4; ``revision`` is None before the first migration."""

    version_number: int
    now: datetime
    revision: str | None


@dataclass(frozen=True, slots=True)
class Leadership:
    """Who leads a service, for which term, and whether that term still holds."""

    holder: str
    term: int
    is_live: bool


def read_server(tx: Connection) -> ServerFacts:
    """Read what the server says of itself."""
    row = tx.execute(
        text("SELECT current_setting('server_version_num')::integer AS number, clock_timestamp() AS now")
    ).one()
    return ServerFacts(row.number, row.now, migrations.current_revision(tx))


def read_leadership(tx: Connection, service: str) -> Leadership | None:
    """Read who leads ``service``; None when nobody ever did."""
    is_live = (col(LeaderRow.expires_at) > func.now()).label("is_live")
    row = tx.execute(
        select(col(LeaderRow.holder), col(LeaderRow.term), is_live).where(col(LeaderRow.service) == service)
    ).one_or_none()
    return Leadership(row.holder, row.term, bool(row.is_live)) if row else None
