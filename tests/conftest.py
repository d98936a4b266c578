"""Real servers for every test: one embedded Postgres and Valkey a session, a database of its own for each test.

A template database is migrated once; each test gets a copy, its own Redis prefix and its own content directory. Worker
processes are real, and really killed. AGENTFLOW_TEST_POSTGRES_BIN runs the same tests on another PostgreSQL.
"""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import signal
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import psycopg
import pytest
from celery import Celery
from pydantic import SecretStr

from agentflow import tasks
from agentflow.embedded import EmbeddedServers, ServerUrls
from agentflow.engine import installation
from agentflow.executors.base import known_actions
from agentflow.runtime import Runtime
from agentflow.settings import Settings
from agentflow.storage import migrations
from tests.workers import WorkerProcess

AUDIT_KEY = "0123456789abcdef0123456789abcdef"
TEMPLATE = "agentflow_template"
HERE = Path(__file__).parent
WITH_PROCESSES = ("acceptance", "faults", "integration")
PARSING = ("test_house.py",)
"""CPython 3.11 breaks ast.parse off once in thousands: SystemError, AST constructor recursion depth mismatch."""
MEMORY, MEMORY_BYTES = "/dev/shm", 4 << 30
_numbers = itertools.count(1)

hypothesis.settings.register_profile("house", deadline=None)  # how long an example takes is a fact of the machine
hypothesis.settings.load_profile("house")


def pytest_configure() -> None:
    """Let the commands under test hear Ctrl-C, also where the tests run in the background of a shell that ignores it.

    An ignored signal is inherited by every process that is started; a handled one is back at its default there.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give what plays with real processes a second try; docs/decisions/0027-a-second-try-is-told.md says why."""
    for item in items if config.pluginmanager.hasplugin("rerunfailures") else []:
        if item.path.relative_to(HERE).parts[0] in WITH_PROCESSES or item.path.name in PARSING:
            item.add_marker(pytest.mark.flaky(reruns=1))
    if hasattr(config, "workerinput"):
        _mix(items)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the first failure of each test that had a second try: a pass then is a fact to look into, no clean one."""
    for report in terminalreporter.stats.get("rerun", []):
        terminalreporter.section(f"first try of {report.nodeid}")
        terminalreporter.line(report.longreprtext)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int | None:
    """Half as many processes again as there are processors: a test with processes waits for them half of its time."""
    if "PYTEST_XDIST_AUTO_NUM_WORKERS" in os.environ:
        return None
    return max(2, len(os.sched_getaffinity(0)) * 3 // 2)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each process whole files, in their order: the slow ones come first, and a module's worker is shared."""
    from xdist.scheduler import LoadFileScheduling

    config.option.loadscopereorder = False
    return LoadFileScheduling(config, log)


@pytest.fixture(scope="session")
def servers() -> Iterator[ServerUrls]:
    """The session's Postgres and Valkey; not under pytest's folder, which the account they run as may not enter."""
    binaries = os.environ.get("AGENTFLOW_TEST_POSTGRES_BIN")
    with (
        tempfile.TemporaryDirectory(prefix="agentflow-test-", dir=quick_folder(), ignore_cleanup_errors=True) as home,
        EmbeddedServers(Path(home), fsync=False, postgres_binaries=Path(binaries) if binaries else None) as embedded,
    ):
        yield embedded.urls


@pytest.fixture(scope="session")
def template(servers: ServerUrls, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A migrated database to copy from."""
    _administrate(servers.database_url, f"CREATE DATABASE {TEMPLATE}")
    settings = _settings(servers, TEMPLATE, tmp_path_factory.mktemp("template"), prefix="template:")
    runtime = Runtime(settings)
    migrations.upgrade(runtime.context.database.engine)
    runtime.close()
    return TEMPLATE


@pytest.fixture
def settings(servers: ServerUrls, template: str, tmp_path: Path) -> Iterator[Settings]:
    """Settings with a database, a Redis prefix and a content directory of the test's own."""
    name = f"test_{os.getpid()}_{next(_numbers)}"
    _administrate(servers.database_url, f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
    yield _settings(servers, name, tmp_path, prefix=f"{name}:")
    _drop(servers.database_url, name)


@pytest.fixture
def house(settings: Settings) -> Iterator[Runtime]:
    """A runtime on an installed database; the test process is a producer, not a worker."""
    runtime = Runtime(settings)
    context = runtime.context
    installation.install(context.database, context.store, context.audit_key)
    tasks.register(runtime.celery, known_actions())
    yield runtime
    runtime.close()
    # Thousands of tests share a process: what kombu keeps for the next send would be left open by each of them.
    runtime.celery.amqp.producer_pool.force_close_all(close_pool=False)
    runtime.celery.pool.force_close_all(close_pool=False)


@pytest.fixture
def celery(house: Runtime) -> Celery:
    """The test's Celery app."""
    return house.celery


@pytest.fixture
def start_worker(house: Runtime, tmp_path: Path) -> Iterator[Callable[..., WorkerProcess]]:
    """Start real worker processes for the test's installation; all are gone at its end."""
    started: list[WorkerProcess] = []

    def start(*arguments: str, app: str = "workers", **environment: str) -> WorkerProcess:
        worker = WorkerProcess(
            house.settings, tmp_path, f"w{len(started)}-{secrets.token_hex(3)}", app, arguments, environment
        )
        started.append(worker)
        worker.wait_until_ready()
        return worker

    yield start
    for worker in started:
        worker.kill()


@pytest.fixture
def worker(start_worker: Callable[..., WorkerProcess]) -> WorkerProcess:
    """One complete worker with two slots."""
    return start_worker()


def quick_folder() -> str | None:
    """A folder in memory for servers whose data nobody needs for long: a database is made there in a tenth of the time.

    None, the usual place, where there is none, or little of it, or no program may be started from it.
    """
    if not os.access(MEMORY, os.W_OK | os.X_OK):
        return None
    is_usable = shutil.disk_usage(MEMORY).free > MEMORY_BYTES and not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC
    return MEMORY if is_usable else None


def _mix(items: list[pytest.Item]) -> None:
    """Take one file of each folder in turn, so that what waits runs beside what computes; the quick files come last."""
    folders: dict[Path, dict[Path, None]] = {}
    for item in items:
        folders.setdefault(item.path.parent, {})[item.path] = None
    turns = {path: turn for files in folders.values() for turn, path in enumerate(files)}

    def place(item: pytest.Item) -> tuple[bool, int, str]:
        is_quick = item.path.relative_to(HERE).parts[0] not in WITH_PROCESSES
        return is_quick, 0 if is_quick else turns[item.path], str(item.path)

    items.sort(key=place)


def _settings(servers: ServerUrls, database: str, home: Path, *, prefix: str) -> Settings:
    url = servers.database_url.rsplit("/", 1)[0]
    return Settings(
        home=home / "home",
        database_url=SecretStr(f"{url}/{database}"),
        redis_url=SecretStr(servers.redis_url),
        audit_key=SecretStr(AUDIT_KEY),
        content_dir=home / "content",
        redis_prefix=prefix,
        actor="tester@test",
        kill_grace_seconds=1,
        drain_seconds=5,
    )


def _drop(database_url: str, name: str) -> None:
    """Drop a database with whoever is on it; an autovacuum worker goes for a plain drop only."""
    try:
        _administrate(database_url, f"DROP DATABASE {name} WITH (FORCE)")
    except psycopg.errors.InsufficientPrivilege:
        _administrate(database_url, f"DROP DATABASE {name}")


def _administrate(database_url: str, statement: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(statement.encode())
