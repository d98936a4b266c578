"""A partly busy worker survives a Redis that dies and comes back: Celery 5.7.0 would end where kombu notes messages."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from agentflow.domain.state import RunState
from agentflow.embedded import EmbeddedValkey
from agentflow.runtime import Runtime
from tests.factories import lines_of, shell_step, submitted, wait_for, wait_for_end
from tests.workers import WorkerProcess

Start = Callable[..., WorkerProcess]
CRASH = "Unrecoverable error: AttributeError"


@pytest.fixture
def valkey() -> Iterator[EmbeddedValkey]:
    """A Valkey of the test's own, to be killed."""
    with (
        tempfile.TemporaryDirectory(prefix="agentflow-test-", ignore_cleanup_errors=True) as home,
        EmbeddedValkey(Path(home), fsync=False) as server,
    ):
        yield server


@pytest.fixture
def own_house(house: Runtime, valkey: EmbeddedValkey) -> Iterator[Runtime]:
    """The test's installation on that Valkey."""
    own = Runtime(house.settings.model_copy(update={"redis_url": SecretStr(valkey.url)}))
    yield own
    own.close()


def _busy_worker(house: Runtime, valkey: EmbeddedValkey, start: Start, folder: Path, app: str) -> WorkerProcess:
    """A worker with one slot at work and one that waits for a message."""
    worker = start("-c", "2", app=app, AGENTFLOW_REDIS_URL=valkey.url)
    marker = folder / "busy"
    submitted(house.context, [shell_step("busy", f"echo x >> {marker}; sleep 6")])
    wait_for(lambda: lines_of(marker))
    return worker


def _restart(valkey: EmbeddedValkey) -> None:
    assert valkey.pid is not None
    os.kill(valkey.pid, signal.SIGKILL)
    wait_for(lambda: valkey.pid is None)
    valkey.stop()
    valkey.start()


@pytest.mark.parametrize("app", ["workers", "tests.integration.broker.late_acks"])
def test_a_partly_busy_worker_goes_on_when_redis_comes_back(
    own_house: Runtime, valkey: EmbeddedValkey, start_worker: Start, tmp_path: Path, app: str
) -> None:
    worker = _busy_worker(own_house, valkey, start_worker, tmp_path, app)

    _restart(valkey)

    later = submitted(own_house.context, [shell_step("later", "true")])
    assert wait_for_end(own_house.context, later, 60) is RunState.COMPLETED
    assert worker.process.poll() is None
    assert CRASH not in worker.output()
