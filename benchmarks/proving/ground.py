"""The ground: one installation in a folder of its own, with servers that may be broken and a model server.

Owns the servers, the settings and the environment of every process that works there. Open it in the main thread: the
servers end with the thread that starts them.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

import redis
from pydantic import SecretStr

from agentflow import AgentFlow
from agentflow.embedded import EmbeddedPostgres, EmbeddedValkey
from agentflow.engine import installation
from agentflow.runtime import Runtime
from agentflow.settings import Settings
from tests.faults.proxy import CuttableLine
from tests.faults.servers import FaultyRedis, FaultyServer
from tests.model_stub import ModelStub

REPOSITORY = Path(__file__).parents[2]
AUDIT_KEY = "proving-key-proving-key-proving-0"
WORK = Path(__file__).with_name("work.sh")
_MEMORY_POLICY_SECONDS = 5.0


class Ground:
    """An installation; use it as a context manager. Its folder goes at the end unless ``keep`` is set."""

    def __init__(self, name: str, *, budgets: Mapping[str, Any] | None = None, **settings: Any) -> None:
        self.home = Path(tempfile.mkdtemp(prefix=f"agentflow-{name}-"))
        self.keep = False
        self._budgets = dict(budgets or {})
        self._given = settings
        self._open = ExitStack()

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:  # an interrupt too must leave no server behind
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()
        if not self.keep:
            shutil.rmtree(self.home, ignore_errors=True)

    def _start(self) -> None:
        for folder in ("logs", "tmp", "plans", "content"):
            (self.home / folder).mkdir(mode=0o700)
        self.home.chmod(0o711)  # the account that the servers run as passes through
        shutil.copy(WORK, self.plans / WORK.name)
        self.redis = FaultyRedis(EmbeddedValkey(self.home / "valkey"))
        self.postgres = FaultyServer(EmbeddedPostgres(self.home / "postgres"))
        for server in (self.redis, self.postgres):
            self._open.callback(server.stop)
            server.start()
        self.line = self._open.enter_context(CuttableLine(self.postgres.url))
        """A way to Postgres that can be cut, for the workers that are to be cut off."""
        self.stub = self._open.enter_context(ModelStub())
        self.credentials = self.stub.credentials_file(self.home)
        self.settings = Settings(
            home=self.home / "agentflow",
            database_url=SecretStr(self.postgres.url),
            redis_url=SecretStr(self.redis.url),
            audit_key=SecretStr(AUDIT_KEY),
            content_dir=self.content,
            provider_credentials=self.credentials,
            http_private_hosts=(self.stub.host,),
            budgets=self._budgets,
            actor="person@proving",
            **self._given,
        )
        self.runtime = Runtime(self.settings)
        self._open.callback(self.runtime.close)
        context = self.runtime.context
        installation.install(context.database, context.store, context.audit_key)

    @property
    def logs(self) -> Path:
        """Where every process writes."""
        return self.home / "logs"

    @property
    def plans(self) -> Path:
        """The folder that plans take their files from."""
        return self.home / "plans"

    @property
    def content(self) -> Path:
        """The content store."""
        return self.home / "content"

    @property
    def journal(self) -> Path:
        """What commands wrote of themselves, a line a sign of life; see work.sh."""
        return self.home / "journal"

    def flow(self) -> AgentFlow:
        """Open a client of its own."""
        return AgentFlow(self.settings)

    def client(self) -> redis.Redis:
        """Open a connection to Redis that is none of agentflow's."""
        return redis.Redis.from_url(self.redis.url, socket_timeout=_MEMORY_POLICY_SECONDS)

    def environment(self, **more: str) -> dict[str, str]:
        """Return the environment of a process that works here; it sees nothing else of this machine."""
        own = {
            "HOME": str(self.home / "agentflow"),
            "DATABASE_URL": self.postgres.url,
            "REDIS_URL": self.redis.url,
            "AUDIT_KEY": AUDIT_KEY,
            "CONTENT_DIR": str(self.content),
            "PROVIDER_CREDENTIALS": str(self.credentials),
            "HTTP_PRIVATE_HOSTS": self.stub.host,
            "BUDGETS": json.dumps(self._budgets),
            **{name.upper(): str(value) for name, value in self._given.items()},
        }
        return {
            "PATH": f"{Path(sys.executable).parent}:{os.environ.get('PATH', os.defpath)}",
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "TMPDIR": str(self.home / "tmp"),
            "PYTHONPATH": str(REPOSITORY),
            "C_FORCE_ROOT": "1",
            **{f"AGENTFLOW_{name}": value for name, value in own.items()},
            **more,
        }

    def journal_lines(self) -> list[list[str]]:
        """Read what commands wrote: the words of each line."""
        with suppress(FileNotFoundError):
            return [line.split() for line in self.journal.read_text(encoding="ascii").splitlines()]
        return []
