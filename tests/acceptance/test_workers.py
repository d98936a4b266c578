"""The workers that a deployment starts: what each profile serves, which pools work, and when a worker takes nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from agentflow.broker.dispatch import queue_depths
from agentflow.runtime import Runtime
from agentflow.worker.app import DATABASE_CONNECTIONS
from tests.conftest import AUDIT_KEY
from tests.factories import attempt_rows, noop_step, shell_step, step_rows, submitted, wait_for, wait_for_end
from tests.workers import WorkerProcess, environment_of

Start = Callable[..., WorkerProcess]
A_POOL_BUILT_ON_GEVENT = "from celery.concurrency.solo import TaskPool\n"


def _celery(
    house: Runtime, folder: Path, app: str, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a worker that is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "celery", "-A", app, "worker", "--without-gossip", "--without-mingle", *arguments],
        cwd=folder,
        env={**environment_of(house.settings, folder), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def other_database(house: Runtime) -> Iterator[str]:
    """A database beside the test's that nobody migrated."""
    url = house.servers.database_url
    name = f"{url.rsplit('/', 1)[1]}_bare"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}".encode())
        yield f"{url.rsplit('/', 1)[0]}/{name}"
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)".encode())


def _queues(worker: WorkerProcess) -> set[str]:
    """The queues that a worker's banner lists."""
    lines = worker.output().split("[queues]")[1].split("[tasks]")[0].splitlines()
    return {line.split()[1] for line in lines if line.strip().startswith(".>")}


@pytest.mark.parametrize(
    ("app", "arguments", "served"),
    [
        ("workers", (), {"control", "commands", "models"}),
        ("workers.commands", (), {"control", "commands"}),
        ("workers.models", (), {"models"}),
        ("workers.commands", ("-Q", "models"), {"models"}),
        ("workers.models", ("-Q", "control,commands"), {"control", "commands"}),
    ],
)
def test_a_profile_says_which_queues_are_served_unless_the_command_line_does(
    start_worker: Start, app: str, arguments: tuple[str, ...], served: set[str]
) -> None:
    assert _queues(start_worker("-c", "1", *arguments, app=app)) == served


def test_a_queue_that_agentflow_does_not_have_is_an_error(house: Runtime, tmp_path: Path) -> None:
    ended = _celery(house, tmp_path, "workers", "-Q", "comands")
    assert ended.returncode != 0
    assert "comands" in ended.stderr


def test_the_worker_of_models_runs_fifty_threads_and_few_database_connections(
    house: Runtime, start_worker: Start
) -> None:
    models = start_worker("-Q", "control", app="workers.models")
    assert "concurrency: 50 (thread)" in models.output()
    run_id = submitted(house.context, [noop_step(f"s{number}") for number in range(200)])
    assert wait_for_end(house.context, run_id, 60) == "completed"
    with house.context.database.transaction() as tx:
        ports = tx.execute(
            text("SELECT client_port FROM pg_stat_activity WHERE datname = current_database()")
        ).scalars()
        opened = {int(port) for port in ports} & _local_ports(models.pid)
    assert 1 <= len(opened) <= DATABASE_CONNECTIONS + 1  # the lease keeper has one of its own


def _local_ports(pid: int) -> set[int]:
    """The TCP ports of a process's own ends of connections."""
    inodes = {
        link.readlink().name.removeprefix("socket:[").rstrip("]")
        for link in Path(f"/proc/{pid}/fd").iterdir()
        if link.is_symlink() and str(link.readlink()).startswith("socket:")
    }
    rows = [line.split() for line in Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]]
    return {int(row[1].split(":")[1], 16) for row in rows if row[9] in inodes}


@pytest.mark.parametrize("pool", ["solo", "threads", "prefork"])
def test_commands_run_on_every_pool_that_is_allowed(
    house: Runtime, start_worker: Start, tmp_path: Path, pool: str
) -> None:
    worker = start_worker("-P", pool, "-c", "2")
    steps = [shell_step("first", f"echo one >> {tmp_path}/out"), shell_step("second", f"echo two >> {tmp_path}/out")]
    steps += [shell_step("flaky", "[ $AGENTFLOW_ATTEMPT -ge 2 ] || exit 75", needs=["first", "second"])]
    run_id = submitted(house.context, steps)
    assert wait_for_end(house.context, run_id) == "completed"
    assert sorted((tmp_path / "out").read_text().split()) == ["one", "two"]
    assert [row.state for row in attempt_rows(house.context, run_id, "flaky")] == ["failed", "succeeded"]
    assert worker.stop() == 0


@pytest.mark.parametrize("pool", ["gevent", "eventlet"])
def test_a_pool_of_green_threads_is_refused_with_the_reason(house: Runtime, tmp_path: Path, pool: str) -> None:
    (tmp_path / "green").mkdir()
    (tmp_path / "green" / f"{pool}.py").write_text(A_POOL_BUILT_ON_GEVENT + "class TaskPool(TaskPool): pass\n")
    path = f"{tmp_path}:{environment_of(house.settings, tmp_path)['PYTHONPATH']}"
    custom = {"CELERY_CUSTOM_WORKER_POOL": f"green.{pool}:TaskPool", "PYTHONPATH": path}
    refused = _celery(house, tmp_path, "workers", "-P", "custom", **custom)
    assert refused.returncode == 1
    assert f"agentflow cannot work with -P {pool}" in refused.stderr
    assert "Traceback" not in refused.stderr
    # Without the library, Celery ends before it asks anybody; with it, agentflow refuses.
    assert _celery(house, tmp_path, "workers", "-P", pool).returncode != 0


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({"AGENTFLOW_CONTENT_DIR": "{tmp_path}/another-store"}, "AGENTFLOW_CONTENT_DIR"),
        ({"AGENTFLOW_AUDIT_KEY": AUDIT_KEY[::-1]}, "AGENTFLOW_AUDIT_KEY"),
        ({"AGENTFLOW_DATABASE_URL": "{other_database}"}, "agentflow migrate"),
    ],
    ids=["another store", "another audit key", "a database without tables"],
)
@pytest.mark.parametrize("pool", ["prefork", "threads"])
def test_a_worker_that_does_not_belong_says_why_and_leaves_the_messages_to_others(
    house: Runtime,
    start_worker: Start,
    tmp_path: Path,
    other_database: str,
    environment: dict[str, str],
    reason: str,
    pool: str,
) -> None:
    run_id = submitted(house.context, [shell_step("work", "true"), noop_step("join", needs=["work"])])
    waiting = queue_depths(house.celery)
    assert waiting["commands"] == 1
    given = {
        name: value.format(tmp_path=tmp_path, other_database=other_database) for name, value in environment.items()
    }
    refused = _celery(house, tmp_path, "workers", "-P", pool, "-c", "1", **given)
    assert refused.returncode == 1
    assert "This worker takes no work" in refused.stderr
    assert reason in refused.stderr
    assert "Traceback" not in refused.stderr
    assert queue_depths(house.celery) == waiting
    assert step_rows(house.context, run_id)["work"].attempts == 0
    start_worker()
    assert wait_for_end(house.context, run_id) == "completed"


def test_a_broker_of_somebody_elses_celery_in_the_environment_is_not_used(house: Runtime, start_worker: Start) -> None:
    start_worker("-c", "1", CELERY_BROKER_URL="redis://127.0.0.1:1/0")
    run_id = submitted(house.context, [shell_step("work", "true")])
    assert wait_for_end(house.context, run_id) == "completed"
    assert wait_for(lambda: step_rows(house.context, run_id)["work"].attempts) == 1
