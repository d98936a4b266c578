"""Leadership of services: one row a service, with a term and an expiry."""

from __future__ import annotations

from sqlalchemy import Connection

from agentflow.storage.database import statement


def elect(tx: Connection, service: str, holder: str, ttl_seconds: float) -> int | None:
    """Become or stay leader for ``ttl_seconds``; returns the term, or None while another holder leads."""
    parameters = {"service": service, "holder": holder, "ttl_seconds": ttl_seconds}
    term: int | None = tx.execute(statement("elect_leader"), parameters).scalar_one_or_none()
    return term


def is_leading(tx: Connection, service: str, holder: str, term: int) -> bool:
    """Whether the term still holds, by the database's clock."""
    parameters = {"service": service, "holder": holder, "term": term}
    return tx.execute(statement("check_leader"), parameters).scalar_one_or_none() is not None


def resign(tx: Connection, service: str, holder: str, term: int) -> None:
    """Give a term up at once."""
    tx.execute(statement("resign_leader"), {"service": service, "holder": holder, "term": term})
