"""One worker for all tests of a module that do it no lasting harm; others start their own."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from agentflow import tasks
from agentflow.embedded import ServerUrls
from agentflow.engine import installation
from agentflow.executors.base import known_actions
from agentflow.runtime import Runtime
from tests.conftest import _administrate, _settings
from tests.workers import WorkerProcess

_numbers = itertools.count(1)


@dataclass(frozen=True)
class Station:
    """An installation and the worker that serves it."""

    house: Runtime
    worker: WorkerProcess


@pytest.fixture(scope="module")
def station(servers: ServerUrls, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Station]:
    """An installation of the module's own with a complete worker of four slots."""
    name, folder = f"module_{os.getpid()}_{next(_numbers)}", tmp_path_factory.mktemp("station")
    _administrate(servers.database_url, f"CREATE DATABASE {name} TEMPLATE {template}")
    house = Runtime(_settings(servers, name, folder, prefix=f"{name}:"))
    installation.install(house.context.database, house.context.store, house.context.audit_key)
    tasks.register(house.celery, known_actions())
    worker = WorkerProcess(house.settings, folder, "shared", "workers", ("-c", "4"), {})
    try:
        worker.wait_until_ready()
        yield Station(house, worker)
    finally:
        worker.kill()
        house.close()
        _administrate(servers.database_url, f"DROP DATABASE {name} WITH (FORCE)")
