"""Flower beside real workers that send events; ``watched`` is one pair for all tests of a module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from agentflow.embedded import ServerUrls
from agentflow.runtime import Runtime
from tests.integration.engine.conftest import _opened
from tests.integration.monitor.flower import FlowerProcess
from tests.workers import WorkerProcess

SECRET = "hunter2-hunter2-hunter2"


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


@dataclass(frozen=True)
class Watched:
    """An installation, the worker of two slots that serves it, and the Flower that hears it."""

    house: Runtime
    worker: WorkerProcess
    flower: FlowerProcess


@pytest.fixture(scope="module")
def watched(servers: ServerUrls, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    """An installation of the module's own, watched by Flower; its worker knows the secret TOKEN."""
    folder = tmp_path_factory.mktemp("watched")
    known = {"AGENTFLOW_WORKER_EVENTS": "true", "AGENTFLOW_SECRET_TOKEN": SECRET}
    with _opened(servers, template, folder, "-c", "2", **known) as station:
        flower = FlowerProcess(station.house.settings, folder)
        try:
            flower.wait_until_it_hears(station.worker)
            yield Watched(station.house, station.worker, flower)
        finally:
            flower.kill()
