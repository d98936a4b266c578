"""What a worker's main process knows of its own consumption: what it took, what it serves, how much more it could take.

Owns the count, kept by Celery's signals, and the reading of Celery's live objects. Touches neither Postgres nor Redis,
and any thread may ask. What the queues hold is the watchdog's to look at.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from celery.concurrency import ALIASES
from celery.signals import task_received, task_rejected, task_unknown, worker_shutting_down
from celery.worker import state


@dataclass(slots=True)
class Consumption:
    """One worker's consumption since its start; a message that is no task of agentflow's was taken as well."""

    worker: Any
    started_at: float
    consumed: int = 0
    consumed_at: float | None = None
    is_draining: bool = False
    _connection: Any = None
    _connected_at: float | None = None

    @classmethod
    def of(cls, worker: Any) -> Consumption:
        """Begin to count what ``worker`` takes."""
        counted = cls(worker, time.monotonic())
        for signal in (task_received, task_rejected, task_unknown):
            signal.connect(counted.count, weak=False)
        worker_shutting_down.connect(counted.drain, weak=False)
        return counted

    def count(self, **_: Any) -> None:
        """Count a message."""
        self.consumed += 1
        self.consumed_at = time.monotonic()

    def drain(self, **_: Any) -> None:
        """Note that the worker takes nothing more."""
        self.is_draining = True

    @property
    def queues(self) -> tuple[str, ...]:
        """The queues that it serves now: remote control adds and cancels them while it runs."""
        return tuple(sorted(dict(self.worker.app.amqp.queues.consume_from)))

    @property
    def busy(self) -> int:
        """How many messages it works on."""
        return len(state.reserved_requests)

    @property
    def slots(self) -> int:
        """How many it may work on at once; what Celery itself compares with before it takes a message."""
        autoscaled = getattr(self.worker, "max_concurrency", None)
        return int(autoscaled or self.worker.pool.num_processes)

    def since_when_connected(self) -> float | None:
        """When the connection that the consumer has was first seen here; None while it has none. For one asker."""
        connection = self.worker.consumer.connection  # set when it stands, and taken away when it is lost
        if connection is not self._connection:
            self._connection, self._connected_at = connection, None if connection is None else time.monotonic()
        return self._connected_at

    def told(self, *, has_ended: bool = False) -> Mapping[str, Any]:
        """What the dispatcher beside it is told, to be written into the worker's row."""
        now, at = time.monotonic(), self.consumed_at
        return {
            "pid": os.getpid(),
            "pool": pool_name(self.worker.pool_cls),
            "concurrency": self.slots,
            "queues": list(self.queues),
            "up_seconds": now - self.started_at,
            "consumed": self.consumed,
            "consumed_seconds_ago": None if at is None else now - at,
            "is_draining": self.is_draining,
            "has_ended": has_ended,
        }


def pool_name(pool: Any) -> str:
    """Return what the class of a pool is called on the command line; where it stands for one that has no such name."""
    module = str(getattr(pool, "__module__", pool))
    places = ((name, place or "") for name, place in ALIASES.items())  # Celery keeps None for a pool of the user's
    return next((name for name, place in places if place.partition(":")[0] == module), module)
