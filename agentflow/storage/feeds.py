"""What a feed of events reads: the newest id, who may still be writing below it, and the events between two ids.

Each read is a statement of its own with a look of its own at the rows: the order in which they are made counts (see
client/feed.py), so the transaction is an ordinary one, in which later statements see more.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row

from agentflow.domain.ids import RunId
from agentflow.domain.state import AttemptState
from agentflow.storage.database import statement
from agentflow.storage.view_shapes import EventView

LAST_ID = 2**63 - 1
_COUNTED = (AttemptState.SUCCEEDED, AttemptState.FAILED, AttemptState.TIMED_OUT, AttemptState.LOST)


@dataclass(frozen=True, slots=True)
class FedEvent:
    """An event with the project of its run; None for what is of no run."""

    event: EventView
    project: str | None


@dataclass(frozen=True, slots=True)
class Measured:
    """How attempts ended lately; no latency where none did."""

    ended: int
    succeeded: int
    latency_ms: float | None


def read_newest(tx: Connection) -> int:
    """Read the highest id of an event that can be seen."""
    return int(tx.execute(statement("view_newest_event")).scalar_one())


def find_writers(tx: Connection) -> frozenset[str]:
    """Find the transactions that may have written events and have not ended yet."""
    return frozenset(tx.execute(statement("view_event_writers")).scalars())


def read_all(tx: Connection, after_id: int, until_id: int, limit: int, project: str | None = None) -> list[FedEvent]:
    """Read up to ``limit`` events above ``after_id``, the earliest first; those of a project, or also those of none."""
    parameters = {"after_id": after_id, "until_id": until_id, "limit": limit, "project": project}
    return [_fed(row) for row in tx.execute(statement("view_feed"), parameters)]


def read_run(tx: Connection, run_id: RunId, after_id: int, until_id: int, limit: int) -> list[FedEvent]:
    """Read up to ``limit`` events of a run above ``after_id``, the earliest first."""
    parameters = {"run_id": run_id, "after_id": after_id, "until_id": until_id, "limit": limit}
    return [_fed(row) for row in tx.execute(statement("view_run_feed"), parameters)]


def read_end(tx: Connection, run_id: RunId) -> int | None:
    """Read the id of the last event of a run that has ended; None while it goes on."""
    last: int | None = tx.execute(statement("view_run_end"), {"run_id": run_id}).scalar_one_or_none()
    return last


def measure_attempts(tx: Connection, project: str | None, window_seconds: float, depth: int) -> Measured:
    """Tell how attempts ended lately, by at most the ``depth`` newest events."""
    parameters = {
        "project": project,
        "window_seconds": window_seconds,
        "depth": depth,
        "counted": [state.value for state in _COUNTED],
    }
    row = tx.execute(statement("measure_attempts"), parameters).one()
    return Measured(row.ended, row.succeeded, None if row.latency_ms is None else float(row.latency_ms))


def find_valid_keys(tx: Connection, public_ids: Collection[str]) -> frozenset[str]:
    """Find which of some API keys still open something."""
    return frozenset(tx.execute(statement("find_valid_keys"), {"public_ids": list(public_ids)}).scalars())


def _fed(row: Row[Any]) -> FedEvent:
    *told, project = tuple(row)
    return FedEvent(EventView(*told), project)
