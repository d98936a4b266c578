"""Prune firings: delete what became of due times of long ago, as the runs of that time go.

A batch is one transaction with one event of the installation's own chain. The newest firing of a schedule stays, and
every one whose run is still there.
"""

from __future__ import annotations

from agentflow.engine.context import EngineContext
from agentflow.engine.record import record_outside
from agentflow.storage import installations, retention

BATCH_FIRINGS = 1000


def prune_firings(context: EngineContext, older_than_seconds: float, actor: str, limit: int = BATCH_FIRINGS) -> int:
    """Delete up to ``limit`` firings that were decided longer ago than that; returns how many."""
    with context.database.transaction() as tx:
        house = installations.lock(tx)
        firings = retention.delete_old_firings(tx, older_than_seconds, limit)
        if firings:
            facts = {"firings": firings, "older_than_seconds": older_than_seconds}
            record_outside(context, tx, house, actor=actor, action="prune_firings", subject="retention", facts=facts)
    return firings
