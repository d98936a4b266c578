"""One worker for all tests of a module that do it no lasting harm; others start their own."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from agentflow import tasks
from agentflow.embedded import ServerUrls
from agentflow.engine import installation
from agentflow.executors.base import known_actions
from agentflow.runtime import Runtime
from tests.conftest import _administrate, _settings
from tests.model_stub import ModelStub
from tests.workers import WorkerProcess

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Station:
    """An installation and the worker that serves it."""

    house: Runtime
    worker: WorkerProcess


@contextmanager
def _opened(servers: ServerUrls, template: str, folder: Path, *arguments: str, **environment: str) -> Iterator[Station]:
    name = f"module_{os.getpid()}_{next(_numbers)}"
    _administrate(servers.database_url, f"CREATE DATABASE {name} TEMPLATE {template}")
    house = Runtime(_settings(servers, name, folder, prefix=f"{name}:"))
    installation.install(house.context.database, house.context.store, house.context.audit_key)
    tasks.register(house.celery, known_actions())
    worker = WorkerProcess(house.settings, folder, "shared", "workers", arguments, environment)
    try:
        worker.wait_until_ready()
        yield Station(house, worker)
    finally:
        worker.kill()
        house.close()
        _administrate(servers.database_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture(scope="module")
def station(servers: ServerUrls, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Station]:
    """An installation of the module's own with a complete worker of four slots."""
    with _opened(servers, template, tmp_path_factory.mktemp("station"), "-c", "4") as station:
        yield station


@dataclass(frozen=True)
class ModelStation:
    """An installation, a worker of threads that serves it, and the model server that the worker calls."""

    house: Runtime
    worker: WorkerProcess
    stub: ModelStub


@pytest.fixture(scope="module")
def _model_station(
    servers: ServerUrls, template: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ModelStation]:
    folder = tmp_path_factory.mktemp("models")
    with (
        ModelStub() as stub,
        _opened(servers, template, folder, "-P", "threads", "-c", "8", **stub.environment(folder)) as station,
    ):
        yield ModelStation(station.house, station.worker, stub)


@pytest.fixture
def models(_model_station: ModelStation) -> ModelStation:
    """The module's models station, as if nothing had been called yet."""
    stub, breakers = _model_station.stub, _model_station.house.context.breakers
    stub.forget()
    for breaker in breakers.read_all():
        breakers.reset(breaker.endpoint)
    return _model_station
