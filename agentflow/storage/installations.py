"""The installation row: which content store and which audit key belong to this database."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection

from agentflow.storage.database import statement


@dataclass(frozen=True, slots=True)
class Installation:
    """What every process compares itself with at start."""

    store_id: UUID
    audit_key_fingerprint: str


def register(tx: Connection, candidate: Installation) -> Installation:
    """Write the installation row if there is none yet; returns the one that stands."""
    parameters = {"store_id": candidate.store_id, "audit_key_fingerprint": candidate.audit_key_fingerprint}
    tx.execute(statement("register_installation"), parameters)
    standing = read(tx)
    if standing is None:
        raise LookupError("the installation row was just written and is not there")
    return standing


def read(tx: Connection) -> Installation | None:
    """Read the installation row; None before the first migration registered it."""
    row = tx.execute(statement("read_installation")).one_or_none()
    return Installation(row.store_id, row.audit_key_fingerprint) if row else None
