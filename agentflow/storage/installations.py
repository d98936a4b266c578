"""The installation row: which content store and which audit key belong to this database."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from agentflow.domain.pause import Pause
from agentflow.storage.database import statement, to_json


@dataclass(frozen=True, slots=True)
class LockedInstallation:
    """The installation's row under its lock: who put all under maintenance, the head of its chain, the time."""

    maintenance: Pause | None
    event_sequence: int
    event_head: bytes | None
    at: datetime


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


def lock(tx: Connection) -> LockedInstallation:
    """Lock the installation's row; every verb that changes something outside of runs does so first."""
    row = tx.execute(statement("lock_installation")).one()
    head = None if row.event_head is None else bytes(row.event_head)
    return LockedInstallation(_pause(row.maintenance), row.event_sequence, head, row.at)


def enter(tx: Connection) -> Pause | None:
    """Return the maintenance that stands, and let none begin or end before this transaction does.

    Every verb that lets a run start does so first, before it locks the run.
    """
    tx.execute(statement("enter_house"))
    return read_maintenance(tx)


def close(tx: Connection) -> LockedInstallation:
    """Lock the installation's row once nobody is letting a run start; whoever wants to waits for this transaction."""
    tx.execute(statement("close_house"))
    return lock(tx)


def read_maintenance(tx: Connection) -> Pause | None:
    """Read the maintenance that stands."""
    return _pause(tx.execute(statement("read_maintenance")).scalar_one_or_none())


def set_maintenance(tx: Connection, maintenance: Pause | None) -> None:
    """Put the installation under maintenance, or end that; the caller has closed it."""
    tx.execute(statement("set_maintenance"), {"maintenance": maintenance and to_json(maintenance.as_json())})


def _pause(stored: Any) -> Pause | None:
    return Pause.from_json(stored) if stored else None
