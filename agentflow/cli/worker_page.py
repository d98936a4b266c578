"""The pages that show workers and queues.

Owns what stands on them and how much of it; ``--json`` has all. The figures are the client's.
"""

from __future__ import annotations

from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from agentflow.cli import words
from agentflow.client.service import QueuesReport, QueueView, WorkersReport
from agentflow.domain.wording import listing
from agentflow.storage.workers import WorkerState, WorkerView

ROOM = 100
"""How many workers the page lists, and how many attempts of a worker."""
_NOBODY = {True: "none, though something waits", False: "none"}
_STYLES = {
    WorkerState.ALIVE: "green",
    WorkerState.DRAINING: "yellow",
    WorkerState.ENDED: "dim",
    WorkerState.GONE: "bold red",
}


def workers_page(report: WorkersReport) -> RenderableType:
    """Return the page of workers."""
    if not report.workers:
        return Text("No worker was heard of within a week. Start one: agentflow worker, or agentflow up.")
    table = _table("worker", "state", "pool", "slots", "queues", "up for", "last seen", "took its last message")
    for worker in report.workers[:ROOM]:
        _add_worker(table, worker, report.read_at)
    more = len(report.workers) - ROOM
    return Group(table, Text(f"and {more} more", "dim")) if more > 0 else table


def _add_worker(table: Table, worker: WorkerView, now: datetime) -> None:
    took = words.ago(worker.consumed_at, now) if worker.consumed_at else "none yet"
    table.add_row(
        Text(words.printable(worker.name), "bold"),
        Text(worker.state.value, _STYLES[worker.state]),
        Text(words.printable(worker.pool)),
        Text(f"{len(worker.work)} of {worker.slots}"),
        Text(words.printable(listing(worker.queues))),
        Text(words.duration((_up_until(worker, now) - worker.started_at).total_seconds())),
        Text(words.ago(worker.seen_at, now)),
        Text(f"{took} ({worker.consumed:,} in all)"),
    )
    for work in worker.work[:ROOM]:
        name = f"  {words.short_id(work.run_id)} {words.printable(work.step)}"
        since = f"attempt {work.attempt}, {words.duration((now - work.started_at).total_seconds())}"
        table.add_row(Text(name, "dim"), Text("runs", "dim"), Text(), Text(), Text(since, "dim"))
    if len(worker.work) > ROOM:
        table.add_row(Text(f"  and {len(worker.work) - ROOM} more", "dim"))


def _up_until(worker: WorkerView, now: datetime) -> datetime:
    """Until when a worker was up: now, unless it ended, or nothing was heard of it for so long that it is gone."""
    return worker.ended_at or (worker.seen_at if worker.state is WorkerState.GONE else now)


def queues_page(report: QueuesReport) -> RenderableType:
    """Return the page of queues."""
    table = _table(
        "queue", "messages", "on their way", "due, not sent", "oldest waits", "its workers' slots", "workers"
    )
    for queue in report.queues:
        _add_queue(table, queue, report.read_at)
    notes = []
    if len({worker for queue in report.queues for worker in queue.workers}) < sum(
        len(queue.workers) for queue in report.queues
    ):
        notes.append(Text("A worker's slots are for all its queues together.", "dim"))
    if all(queue.messages is not None for queue in report.queues):
        return Group(table, *notes)
    return Group(table, *notes, Text("Redis does not answer: how many messages wait is unknown.", "yellow"))


def _add_queue(table: Table, queue: QueueView, now: datetime) -> None:
    waits = words.duration((now - queue.oldest_due_at).total_seconds()) if queue.oldest_due_at else ""
    is_stuck = not queue.workers and bool(queue.messages or queue.unsent or queue.outstanding)
    table.add_row(
        Text(words.printable(queue.name), "bold"),
        Text("?" if queue.messages is None else f"{queue.messages:,}"),
        Text(f"{queue.outstanding:,}"),
        Text(f"{queue.unsent:,}"),
        Text(waits),
        Text(f"{queue.busy} of {queue.slots} busy"),
        Text(words.printable(listing(queue.workers)) or _NOBODY[is_stuck], "bold red" if is_stuck else ""),
    )


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table
