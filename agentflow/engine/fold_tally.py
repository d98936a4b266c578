"""Fold the tallies, so that they are read in a moment however much was counted.

No reader depends on it: what is not folded yet counts as much as what is. So nothing changed: no audit event.
"""

from __future__ import annotations

from agentflow.engine.context import EngineContext
from agentflow.storage import tallies

BATCH_ROWS = 20_000


def fold_tally(context: EngineContext) -> bool:
    """Fold some thousands of rows; True if there are more."""
    with context.database.transaction() as tx:
        return tallies.fold(tx, BATCH_ROWS) == BATCH_ROWS
