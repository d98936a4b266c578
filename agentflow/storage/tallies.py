"""Tallies: counts that only grow. Adding to them, folding them, reading them; what they are is domain/tally.py's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal

from sqlalchemy import Connection

from agentflow.domain.tally import Act, Tally
from agentflow.storage.database import statement


@dataclass(frozen=True, slots=True)
class Count:
    """One count. ``upto`` is the bucket's upper bound where durations are counted, and ``total`` their sum then."""

    labels: tuple[str, ...]
    upto: float | None
    count: int
    total: Decimal


def add(tx: Connection, done: Mapping[Act, int]) -> None:
    """Count what a dispatcher did."""
    parameters = {"metric": Tally.DISPATCHER, "names": list(done), "counts": list(done.values())}
    tx.execute(statement("add_tally"), parameters)


def fold(tx: Connection, limit: int) -> int:
    """Fold up to ``limit`` rows into one a count; returns how many went."""
    return int(tx.execute(statement("fold_tally"), {"limit": limit}).one().taken)


def read(tx: Connection) -> dict[Tally, list[Count]]:
    """Read every count, in the order of its labels and buckets."""
    found: dict[Tally, list[Count]] = {tally: [] for tally in Tally}
    for row in tx.execute(statement("measure_tally")):
        upto = None if row.upto is None else float(row.upto)
        found[Tally(row.metric)].append(Count(tuple(row.labels), upto, int(row.counted), Decimal(row.total or 0)))
    return found
