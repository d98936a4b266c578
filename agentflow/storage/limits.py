"""Limits as they stand: the places of concurrency keys, who holds and who waits, and when a rate is next free."""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection

from agentflow.domain.limit import ConcurrencyLimit
from agentflow.storage.database import statement


def insert_slots(tx: Connection, wanted: Iterable[ConcurrencyLimit]) -> None:
    """Make the places that the keys of a new run still lack."""
    places: dict[str, int] = {}
    for limit in wanted:
        places[limit.key] = max(limit.limit, places.get(limit.key, 0))
    if places:
        tx.execute(statement("insert_slots"), {"keys": list(places), "limits": list(places.values())})
