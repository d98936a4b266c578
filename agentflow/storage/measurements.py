"""Measurements: how the whole stands now, in numbers that cost little to read, however much has ended before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, text

from agentflow.domain.state import RunFacts, RunState, ShownRunState, StepState, shown_state
from agentflow.domain.tally import Tally
from agentflow.storage import tallies, workers
from agentflow.storage.database import statement
from agentflow.storage.tallies import Count
from agentflow.storage.workers import QueueRows, WorkerView

PATIENCE_SECONDS = 8
"""What a statement of these may take: whoever asks gives up after ten seconds, as a rule, and asks again soon."""


@dataclass(frozen=True, slots=True)
class GatesWaiting:
    """The gates of a kind that wait."""

    kind: str
    waiting: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True)
class Service:
    """How the service stands. ``lease_overdue_seconds`` is below 0 while none is, None where nothing runs."""

    is_led: bool
    lease_overdue_seconds: float | None
    dead_letters: int
    connections: int
    max_connections: int
    deadlocks: int
    database_bytes: int


@dataclass(frozen=True, slots=True)
class Measurements:
    """Everything that Postgres knows; of almost one moment."""

    tallies: dict[Tally, list[Count]]
    runs: dict[ShownRunState, int]
    steps: dict[tuple[str, StepState], int]
    gates: Sequence[GatesWaiting]
    schedules: dict[str, int]
    schedules_overdue_seconds: float
    webhooks: dict[str, int]
    webhooks_failing_seconds: float
    deliveries_pending: int
    service: Service
    workers: Sequence[WorkerView]
    queues: Sequence[QueueRows]
    due_seconds: dict[str, float]


def read(tx: Connection, service: str, queues: Sequence[str]) -> Measurements:
    """Measure. ``queues`` are those that are told of even if nothing waits in them."""
    tx.execute(text(f"SET LOCAL statement_timeout = '{PATIENCE_SECONDS}s'"))
    runs, steps = _read_open(tx)
    schedules = tx.execute(statement("measure_schedules")).all()
    webhooks = tx.execute(statement("measure_webhooks")).all()
    known = workers.view_workers(tx)
    served = sorted({queue for worker in known if worker.is_serving for queue in worker.queues})
    rows = workers.view_queues(tx, [*queues, *served])
    now = tx.execute(text("SELECT now()")).scalar_one()
    return Measurements(
        tallies=tallies.read(tx),
        runs=runs,
        steps=steps,
        gates=[GatesWaiting(*row) for row in tx.execute(statement("measure_gates"))],
        schedules={row.state: row.schedules for row in schedules},
        schedules_overdue_seconds=max((row.overdue_seconds for row in schedules), default=0.0),
        webhooks={row.state: row.webhooks for row in webhooks},
        webhooks_failing_seconds=max((row.failing_seconds for row in webhooks), default=0.0),
        deliveries_pending=sum(row.pending for row in webhooks),
        service=Service(*tx.execute(statement("measure_service"), {"service": service}).one()),
        workers=known,
        queues=list(rows.values()),
        due_seconds={
            name: max(0.0, (now - row.oldest_due_at).total_seconds()) if row.oldest_due_at else 0.0
            for name, row in rows.items()
        },
    )


def _read_open(tx: Connection) -> tuple[dict[ShownRunState, int], dict[tuple[str, StepState], int]]:
    runs: Counter[ShownRunState] = Counter()
    steps: dict[tuple[str, StepState], int] = {}
    for row in tx.execute(statement("measure_open")):
        if row.kind == "step":
            steps[row.action, StepState(row.state)] = row.open
            continue
        facts = RunFacts(RunState(row.state), row.is_paused, row.is_exhausted, row.is_moving, row.is_holding)
        runs[shown_state(facts)] += row.open
    return dict(runs), steps
