"""The page of workers says how long each was up, by what is known of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from agentflow.cli.worker_page import workers_page
from agentflow.client.service import WorkersReport
from agentflow.storage.workers import WorkerState, WorkerView

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def _worker(state: WorkerState, ended_at: datetime | None) -> WorkerView:
    """A worker that began an hour ago and was heard of once, 2 ms later."""
    began = NOW - timedelta(hours=1)
    return WorkerView(
        name="celery@here",
        state=state,
        pid=7,
        version="0",
        pool="prefork",
        slots=4,
        queues=("commands",),
        started_at=began,
        seen_at=began + timedelta(milliseconds=2),
        consumed=0,
        consumed_at=None,
        ended_at=ended_at,
        work=(),
    )


@pytest.mark.parametrize(
    ("state", "ended_at", "up_for"),
    [
        (WorkerState.ALIVE, None, "1 h 00 m"),  # it is up now, and not only when it was last heard of
        (WorkerState.DRAINING, None, "1 h 00 m"),
        (WorkerState.GONE, None, "2 ms"),
        (WorkerState.ENDED, NOW - timedelta(minutes=30), "30 m 00 s"),
    ],
)
def test_how_long_a_worker_was_up_ends_when_it_did(state: WorkerState, ended_at: datetime | None, up_for: str) -> None:
    console = Console(width=200)
    with console.capture() as shown:
        console.print(workers_page(WorkersReport(NOW, (_worker(state, ended_at),))))
    heads, line = shown.get().splitlines()
    assert line[heads.index("up for") : heads.index("last seen")].strip() == up_for
