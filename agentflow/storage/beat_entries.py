"""Entries of a user's own beat_schedule: when each last fired, so that the next beat goes on from there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from agentflow.storage.database import statement


@dataclass(frozen=True, slots=True)
class BeatEntry:
    """An entry: when it last fired, or began to count, and how often it did."""

    last_run_at: datetime
    total_run_count: int


@dataclass(frozen=True, slots=True)
class Term:
    """Whose entries may fire: the holder of a service's row, in a term."""

    service: str
    holder: str
    number: int


def read(tx: Connection, names: list[str]) -> dict[str, BeatEntry]:
    """Read entries by name; those that nobody noted yet are not among them."""
    rows = tx.execute(statement("read_beat_entries"), {"names": names})
    return {row.name: BeatEntry(row.last_run_at, row.total_run_count) for row in rows}


def register(tx: Connection, entries: Mapping[str, datetime]) -> None:
    """Note from when on new entries count."""
    for name, last_run_at in sorted(entries.items()):
        tx.execute(statement("insert_beat_entry"), {"name": name, "last_run_at": last_run_at})


def claim(tx: Connection, term: Term, name: str, old_run_at: datetime, now: datetime) -> bool:
    """Take a firing before it is sent; False when another took it, or when the term is over."""
    parameters = {"name": name, "old_run_at": old_run_at, "last_run_at": now}
    whose = {"service": term.service, "holder": term.holder, "term": term.number}
    return tx.execute(statement("claim_beat_entry"), parameters | whose).one_or_none() is not None


def give_back(tx: Connection, name: str, old_run_at: datetime, now: datetime) -> None:
    """Give a firing back that could not be sent."""
    parameters = {"name": name, "old_run_at": old_run_at, "last_run_at": now}
    tx.execute(statement("return_beat_entry"), parameters)
