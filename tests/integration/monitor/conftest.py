"""Flower beside real workers that send events."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentflow.runtime import Runtime
from tests.integration.monitor.flower import FlowerProcess
from tests.workers import WorkerProcess


@pytest.fixture
def flower(house: Runtime, tmp_path: Path) -> Iterator[FlowerProcess]:
    """Flower over the test's broker."""
    process = FlowerProcess(house.settings, tmp_path)
    process.wait_until_ready()
    yield process
    process.kill()


@pytest.fixture
def watched_worker(flower: FlowerProcess, start_worker: Callable[..., WorkerProcess]) -> WorkerProcess:
    """One complete worker with two slots that sends events, started when Flower listens."""
    return start_worker(AGENTFLOW_WORKER_EVENTS="true")
