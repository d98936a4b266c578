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
    """Flower over the test's broker; it comes up while the test's workers do."""
    process = FlowerProcess(house.settings, tmp_path)
    yield process
    process.kill()


@pytest.fixture
def watched_worker(flower: FlowerProcess, start_worker: Callable[..., WorkerProcess]) -> WorkerProcess:
    """One complete worker with two slots that sends events, and that Flower hears."""
    worker = start_worker(AGENTFLOW_WORKER_EVENTS="true")
    flower.wait_until_it_hears(worker)
    return worker
