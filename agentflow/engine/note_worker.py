"""Note a worker: what it serves, that it lives, and that it ended. A sign of life, so it leaves no audit event."""

from __future__ import annotations

from agentflow.engine.context import EngineContext
from agentflow.storage import workers
from agentflow.storage.workers import WorkerTold


def note_worker(context: EngineContext, told: WorkerTold, *, is_first: bool = False) -> None:
    """Write what a worker tells of itself. The first time the list is cleared of those that are long gone."""
    with context.database.transaction() as tx:
        workers.see(tx, told)
        if is_first:
            workers.forget_old(tx)


def note_end(context: EngineContext, told: WorkerTold) -> None:
    """Write that a worker ended as it should."""
    with context.database.transaction() as tx:
        workers.end(tx, told.name, told.pid)
