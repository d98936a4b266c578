"""Workers and queues: who serves what, who was heard of when, and what waits for them.

Owns the worker's row and the public shapes of ``workers`` and ``queues``. Messages are Redis' to count; a row says what
its worker last told of itself, and being alive is derived here, in one place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row

from agentflow.domain.ids import RunId, StepKey
from agentflow.storage.database import statement, to_json
from agentflow.storage.view_shapes import moment

SILENCE_SECONDS = 15.0
"""A worker tells of itself every few seconds; one that was not heard of for so long is taken for gone."""
KEPT_DAYS = 7
"""How long a worker that is gone stays in the list."""


@dataclass(frozen=True, slots=True)
class WorkerTold:
    """What a worker tells of itself. Times are ages in seconds, since its clock may be wrong.

    ``cpu_seconds`` and ``resident_bytes`` are measured beside it, of all its processes.
    """

    name: str
    pid: int
    version: str
    pool: str
    concurrency: int
    queues: tuple[str, ...]
    up_seconds: float
    consumed: int
    consumed_seconds_ago: float | None
    is_draining: bool
    cpu_seconds: float | None = None
    resident_bytes: int | None = None


class WorkerState(StrEnum):
    """How a worker is shown."""

    ALIVE = "alive"
    DRAINING = "draining"
    """It takes nothing more and finishes what it runs."""
    ENDED = "ended"
    GONE = "gone"
    """It did not say that it ends, and nothing is heard of it."""


@dataclass(frozen=True, slots=True)
class WorkView:
    """An attempt that a worker runs."""

    run_id: RunId
    step: StepKey
    attempt: int
    started_at: datetime
    lease_until: datetime
    project: str

    def as_json(self) -> dict[str, Any]:
        """The attempt as it stands under its worker."""
        return {
            "run": str(self.run_id),
            "step": self.step,
            "attempt": self.attempt,
            "started_at": moment(self.started_at),
            "lease_until": moment(self.lease_until),
        }


@dataclass(frozen=True, slots=True)
class WorkerView:
    """A worker. ``consumed`` counts the messages that it took; ``consumed_at`` is when it took the last."""

    name: str
    state: WorkerState
    pid: int
    version: str
    pool: str
    slots: int
    queues: tuple[str, ...]
    started_at: datetime
    seen_at: datetime
    consumed: int
    consumed_at: datetime | None
    ended_at: datetime | None
    work: tuple[WorkView, ...]
    cpu_seconds: float | None = None
    resident_bytes: int | None = None

    @property
    def is_serving(self) -> bool:
        """Whether it takes messages."""
        return self.state is WorkerState.ALIVE

    def as_json(self) -> dict[str, Any]:
        """The worker as ``workers --json`` prints it."""
        return {
            "name": self.name,
            "state": self.state.value,
            "pid": self.pid,
            "version": self.version,
            "pool": self.pool,
            "slots": self.slots,
            "queues": list(self.queues),
            "started_at": moment(self.started_at),
            "seen_at": moment(self.seen_at),
            "consumed": self.consumed,
            "consumed_at": moment(self.consumed_at),
            "ended_at": moment(self.ended_at),
            "running": [each.as_json() for each in self.work],
        }


@dataclass(frozen=True, slots=True)
class QueueRows:
    """A queue by the rows: doorbells on their way, due steps without one, and since when the oldest is due."""

    name: str
    outstanding: int = 0
    unsent: int = 0
    oldest_due_at: datetime | None = None


def see(tx: Connection, told: WorkerTold) -> None:
    """Note what a worker tells of itself, by the database's clock."""
    parameters = {name: getattr(told, name) for name in told.__slots__} | {"queues": to_json(list(told.queues))}
    tx.execute(statement("see_worker"), parameters)


def end(tx: Connection, name: str, pid: int) -> None:
    """Note that a worker ended as it should."""
    tx.execute(statement("end_worker"), {"name": name, "pid": pid})


def forget_old(tx: Connection) -> None:
    """Forget the workers that have been gone for long."""
    tx.execute(statement("forget_old_workers"), {"days": KEPT_DAYS})


def view_workers(tx: Connection) -> tuple[WorkerView, ...]:
    """Read every worker with what it runs; those that ended stand last."""
    rows = tx.execute(statement("view_workers"), {"silence_seconds": SILENCE_SECONDS})
    return tuple(_worker(row) for row in rows)


def view_queues(tx: Connection, names: Iterable[str]) -> dict[str, QueueRows]:
    """Read how queues stand by the rows: those of ``names``, and whatever else a step waits in."""
    found = {row.queue: QueueRows(*row) for row in tx.execute(statement("view_queues"))}
    return {name: found.get(name) or QueueRows(name) for name in dict.fromkeys([*names, *found])}


def serving(workers: Sequence[WorkerView], queue: str) -> tuple[WorkerView, ...]:
    """Return those that take messages from a queue."""
    return tuple(worker for worker in workers if worker.is_serving and queue in worker.queues)


def _worker(row: Row[Any]) -> WorkerView:
    work = tuple(_work(each) for each in row.work)
    return WorkerView(
        name=row.name,
        state=_state(row, is_working=bool(work)),
        pid=row.pid,
        version=row.version,
        pool=row.pool,
        slots=row.concurrency,
        queues=tuple(row.queues),
        started_at=row.started_at,
        seen_at=row.seen_at,
        consumed=row.consumed,
        consumed_at=row.consumed_at,
        ended_at=row.ended_at,
        work=work,
        cpu_seconds=row.cpu_seconds,
        resident_bytes=row.resident_bytes,
    )


def _state(row: Row[Any], *, is_working: bool) -> WorkerState:
    if row.ended_at is not None:  # its dispatcher ends before the last attempts do
        return WorkerState.DRAINING if is_working else WorkerState.ENDED
    if not row.is_heard:
        return WorkerState.GONE
    return WorkerState.DRAINING if row.is_draining else WorkerState.ALIVE


def _work(stored: Mapping[str, Any]) -> WorkView:
    return WorkView(
        RunId(UUID(stored["run"])),
        StepKey(stored["step"]),
        stored["attempt"],
        datetime.fromisoformat(stored["started_at"]),
        datetime.fromisoformat(stored["lease_until"]),
        stored["project"],
    )
