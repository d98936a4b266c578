"""Signals: what was sent to runs for steps that wait for it, and which step took it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from agentflow.domain.ids import RunId, StepId
from agentflow.domain.signal import MAX_WAITING
from agentflow.storage.database import statement, to_json
from agentflow.storage.view_shapes import WaitingSignal


@dataclass(frozen=True, slots=True)
class Taken:
    """A signal that a step took: who had sent it, and what it brings."""

    id: int
    actor: str
    data: Any


def insert(tx: Connection, run_id: RunId, name: str, data: Any, actor: str, taken_by: StepId | None = None) -> int:
    """Keep a signal; returns its number."""
    parameters = {
        "run_id": run_id,
        "name": name,
        "data": None if data is None else to_json(data),
        "actor": actor,
        "taken_by": taken_by,
    }
    return int(tx.execute(statement("insert_signal"), parameters).scalar_one())


def take(tx: Connection, run_id: RunId, name: str, step_id: StepId) -> Taken | None:
    """Let a step take the first signal of a name that waits; None where none does."""
    parameters = {"run_id": run_id, "name": name, "step_id": step_id}
    row = tx.execute(statement("take_signal"), parameters).one_or_none()
    return None if row is None else Taken(row.id, row.actor, row.data)


def find_listening(tx: Connection, run_id: RunId, name: str) -> StepId | None:
    """Find the step that a signal is for: the first by position that waits for it."""
    found = tx.execute(statement("find_listening_step"), {"run_id": run_id, "name": name}).scalar_one_or_none()
    return None if found is None else StepId(found)


def read_waiting(tx: Connection, run_id: RunId) -> list[WaitingSignal]:
    """Read the signals of a run that no step has taken yet, in the order in which they came."""
    rows = tx.execute(statement("view_signals"), {"run_id": run_id, "limit": MAX_WAITING})
    return [WaitingSignal(*row) for row in rows]
