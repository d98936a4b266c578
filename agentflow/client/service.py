"""The client's look at what does the work: workers, and the queues that they take from.

Owns the public form of both reports. Postgres knows workers and doorbells; how many messages wait, Redis is asked, and
without it that is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from agentflow.broker.queue_lengths import QueueLengths
from agentflow.broker.queues import QUEUE_NAMES
from agentflow.client.connection import Connected
from agentflow.storage import balances, workers
from agentflow.storage.view_shapes import moment
from agentflow.storage.workers import WorkerView

WORKERS_SCHEMA, QUEUES_SCHEMA = "agentflow.workers/1", "agentflow.queues/1"


@dataclass(frozen=True, slots=True)
class WorkersReport:
    """Every worker that was heard of within a week, those that ended last."""

    read_at: datetime
    workers: tuple[WorkerView, ...]

    def of(self, project: str) -> WorkersReport:
        """Return the same workers with only what they run of a project."""
        seen = (
            replace(each, work=tuple(work for work in each.work if work.project == project)) for each in self.workers
        )
        return WorkersReport(self.read_at, tuple(seen))

    def as_json(self) -> dict[str, Any]:
        """The report as ``workers --json`` prints it."""
        return {
            "schema": WORKERS_SCHEMA,
            "read_at": moment(self.read_at),
            "workers": [worker.as_json() for worker in self.workers],
        }


@dataclass(frozen=True, slots=True)
class QueueView:
    """A queue. ``messages`` wait in Redis (None: it does not answer); ``outstanding`` doorbells are out by the rows.

    ``unsent`` steps are due and have no doorbell; ``oldest_due_at`` is since when the oldest due step waits.
    """

    name: str
    messages: int | None
    outstanding: int
    unsent: int
    oldest_due_at: datetime | None
    workers: tuple[str, ...]
    slots: int
    busy: int

    def as_json(self) -> dict[str, Any]:
        """The queue as ``queues --json`` prints it."""
        return {
            "name": self.name,
            "messages": self.messages,
            "outstanding": self.outstanding,
            "unsent": self.unsent,
            "oldest_due_at": moment(self.oldest_due_at),
            "workers": list(self.workers),
            "slots": self.slots,
            "busy": self.busy,
        }


@dataclass(frozen=True, slots=True)
class QueuesReport:
    """Every queue that is declared, served or waited in."""

    read_at: datetime
    queues: tuple[QueueView, ...]

    def as_json(self) -> dict[str, Any]:
        """The report as ``queues --json`` prints it."""
        return {
            "schema": QUEUES_SCHEMA,
            "read_at": moment(self.read_at),
            "queues": [queue.as_json() for queue in self.queues],
        }


class Service(Connected):
    """What knows the workers and queues of an installation."""

    def workers(self, *, project: str | None = None) -> WorkersReport:
        """Tell the workers: what they serve, when they were last heard of, when they took a message, what they run.

        With a project only what they run of it.
        """
        with self._reading() as tx:
            report = WorkersReport(balances.read_now(tx), workers.view_workers(tx))
        return report if project is None else report.of(project)

    def queues(self) -> QueuesReport:
        """Tell the queues: what waits in them, and who takes from them."""
        with self._reading() as tx:
            now, known = balances.read_now(tx), workers.view_workers(tx)
            served = [queue for worker in known if worker.is_serving for queue in worker.queues]
            rows = workers.view_queues(tx, [*QUEUE_NAMES, *sorted(served)])
        prefix = self.context.settings.redis_prefix
        lengths = QueueLengths(self.context.side_channel.client, prefix).read(list(rows)) or {}
        return QueuesReport(now, tuple(_queue(row, lengths.get(row.name), known) for row in rows.values()))


def _queue(row: workers.QueueRows, messages: int | None, known: tuple[WorkerView, ...]) -> QueueView:
    serving = workers.serving(known, row.name)
    return QueueView(
        name=row.name,
        messages=messages,
        outstanding=row.outstanding,
        unsent=row.unsent,
        oldest_due_at=row.oldest_due_at,
        workers=tuple(worker.name for worker in serving),
        slots=sum(worker.slots for worker in serving),
        busy=sum(len(worker.work) for worker in serving),
    )
