"""Guidance: which texts wait for the model calls of a run, and which step says them. The texts are content."""

from __future__ import annotations

from sqlalchemy import Connection

from agentflow.domain.child import plan_id
from agentflow.domain.ids import AttemptId, RunId, StepId, StepKey
from agentflow.storage.database import statement


def insert(tx: Connection, run_id: RunId, step: StepKey | None, *, sha256: str, size: int, actor: str) -> None:
    """Keep that ``actor`` gave a text for the next model call, or for those of ``step``. The caller holds the run."""
    parameters = {"run_id": run_id, "step_key": step, "sha256": sha256, "bytes": size, "actor": actor}
    tx.execute(statement("insert_guidance"), parameters).one()


def take(tx: Connection, run_id: RunId, step_id: StepId, attempt_id: AttemptId, key: StepKey) -> tuple[str, ...]:
    """Give a claimed step what waits for it; returns the hashes of all that it was given, the oldest first.

    That is also what another had taken that ended without an answer of its model.
    """
    parameters = {"run_id": run_id, "step_id": step_id, "attempt_id": attempt_id, "keys": [key, plan_id(key)]}
    return tuple(row.sha256 for row in tx.execute(statement("take_guidance"), parameters))
