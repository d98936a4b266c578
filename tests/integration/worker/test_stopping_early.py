"""A worker that is told to stop while it is still waiting for Postgres stops."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest
from pydantic import SecretStr

from agentflow.runtime import Runtime
from tests.factories import wait_for
from tests.workers import WorkerProcess, is_alive


@pytest.mark.parametrize("pool", ["prefork", "threads"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGQUIT], ids=["warm", "cold"])
def test_a_worker_that_waits_for_postgres_stops_when_it_is_told_to(
    house: Runtime, tmp_path: Path, pool: str, number: signal.Signals
) -> None:
    away = house.settings.model_copy(update={"database_url": SecretStr("postgresql://nobody@127.0.0.1:1/nothing")})
    worker = WorkerProcess(away, tmp_path, "waiting", "workers", ("-c", "1", "-P", pool), {})
    try:
        wait_for(lambda: "postgres_awaited" in worker.output())
        everything = worker.processes()

        worker.send(number)

        assert worker.process.wait(10) == 0
        wait_for(lambda: not any(is_alive(pid) for pid in everything), 5)
    finally:
        worker.kill()
