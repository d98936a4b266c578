"""Plans as they were stored, read back by fingerprint."""

from __future__ import annotations

from sqlalchemy import Connection

from agentflow.domain.error import NotFound
from agentflow.domain.plan import Plan
from agentflow.storage.database import statement


def read(tx: Connection, fingerprint: str) -> Plan:
    """Read a plan; NotFound when no run ever used that fingerprint here."""
    document = tx.execute(statement("read_plan"), {"fingerprint": fingerprint}).scalar_one_or_none()
    if document is None:
        raise NotFound(f"No plan has the fingerprint {fingerprint}", fingerprint=fingerprint)
    return Plan.from_stored(document)
