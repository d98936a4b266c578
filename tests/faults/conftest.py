"""Installations on servers of the test's own: a test that names ``own_redis`` or ``own_postgres`` may break them.

``settings``, ``house`` and ``start_worker`` then speak to these; what a test does not name is the session's.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from agentflow.embedded import EmbeddedPostgres, EmbeddedValkey, ServerUrls
from agentflow.runtime import Runtime
from agentflow.settings import Settings
from agentflow.storage import migrations
from tests.conftest import TEMPLATE, _administrate, _numbers, _settings
from tests.faults.servers import FaultyRedis, FaultyServer

OWN = ("own_redis", "own_postgres")


@pytest.fixture
def own_redis() -> Iterator[FaultyRedis]:
    """A Valkey of the test's own, with an append-only file."""
    with own_home() as home, EmbeddedValkey(Path(home), fsync=False) as server:
        faulty = FaultyRedis(server)
        yield faulty
        faulty.thaw()


@pytest.fixture(scope="module")
def _module_postgres(servers: ServerUrls) -> Iterator[FaultyServer[EmbeddedPostgres]]:
    binaries = os.environ.get("AGENTFLOW_TEST_POSTGRES_BIN")
    with (
        own_home() as home,
        EmbeddedPostgres(Path(home), fsync=False, binaries=Path(binaries) if binaries else None) as server,
    ):
        _make_template(server, servers, Path(home))
        faulty = FaultyServer(server)
        yield faulty
        faulty.thaw()


@pytest.fixture
def own_postgres(_module_postgres: FaultyServer[EmbeddedPostgres]) -> Iterator[FaultyServer[EmbeddedPostgres]]:
    """The module's Postgres, running when a test begins, whatever the one before did to it."""
    _module_postgres.mend()
    yield _module_postgres
    _module_postgres.mend()


@pytest.fixture
def settings(request: pytest.FixtureRequest, servers: ServerUrls, template: str, tmp_path: Path) -> Iterator[Settings]:
    """Settings with a database, a Redis prefix and a content directory of the test's own, on the servers it names."""
    own = {name: request.getfixturevalue(name) for name in OWN if name in request.fixturenames}
    urls = ServerUrls(
        own["own_postgres"].url if "own_postgres" in own else servers.database_url,
        own["own_redis"].url if "own_redis" in own else servers.redis_url,
    )
    name = f"test_{os.getpid()}_{next(_numbers)}"
    _administrate(urls.database_url, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield _settings(urls, name, tmp_path, prefix=f"{name}:")
    for server in own.values():
        server.mend()
    _administrate(urls.database_url, f"DROP DATABASE {name} WITH (FORCE)")


def own_home() -> tempfile.TemporaryDirectory[str]:
    """A home for a server: not under pytest's folder, which the account that the servers run as may not enter."""
    return tempfile.TemporaryDirectory(prefix="agentflow-test-", ignore_cleanup_errors=True)


def _make_template(server: EmbeddedPostgres, servers: ServerUrls, home: Path) -> None:
    _administrate(server.url, f"CREATE DATABASE {TEMPLATE}")
    settings = _settings(ServerUrls(server.url, servers.redis_url), TEMPLATE, home / "template", prefix="template:")
    runtime = Runtime(settings)
    migrations.upgrade(runtime.context.database.engine)
    runtime.close()
