"""What a run used, in counts, for those who are told how it stands."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection

from agentflow.domain.ids import RunId
from agentflow.storage.database import statement


@dataclass(frozen=True, slots=True)
class CountedUsage:
    """What a run used so far; ``usd_nano`` is the sum of the calls with a known price."""

    attempts: int
    calls: int
    tokens: int
    usd_nano: int
    unpriced_calls: int


def count_usage(tx: Connection, run_id: RunId) -> CountedUsage:
    """Count what a run used so far."""
    row = tx.execute(statement("summarise_usage"), {"run_id": run_id}).one()
    return CountedUsage(row.attempts, row.calls, row.tokens, row.usd_nano, row.unpriced_calls)
