"""The composition root: builds one process's database pool, broker, side channel, store and lease keeper from settings.

Owns which servers are used (the environment's, or those of the stack that ``agentflow up`` started) and that nothing
built before a fork is used after it.
"""

from __future__ import annotations

import os
import secrets
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from celery import Celery
from pydantic import SecretStr

from agentflow.broker.app import make_celery
from agentflow.broker.bells import SideChannel
from agentflow.broker.breakers import Breakers
from agentflow.broker.budgets import Ledger
from agentflow.content.shared_directory import SharedDirectory
from agentflow.domain.error import ConfigurationError
from agentflow.embedded.state import no_servers, read_state
from agentflow.engine.context import EngineContext
from agentflow.engine.heartbeat import LeaseKeeper
from agentflow.executors.base import close_executors
from agentflow.settings import Settings, load_settings
from agentflow.storage.database import Database
from agentflow.telemetry.tracing import open_tracing

_lock = threading.Lock()
_current: Runtime | None = None


@dataclass(frozen=True)
class Servers:
    """The servers that a process uses; the urls hold passwords."""

    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)


class Runtime:
    """Everything one process needs; built lazily, belongs to the process that built it."""

    def __init__(self, settings: Settings, *, celery: Celery | None = None, pool_size: int = 5) -> None:
        self.pid = os.getpid()
        self.settings = with_stack(settings)
        self.servers = servers_of(self.settings)
        self._pool_size = pool_size
        self._given_celery = celery
        self.is_checked = False
        """Whether a client has found that its database, store and audit key are those of the runs."""

    @cached_property
    def celery(self) -> Celery:
        """The Celery app."""
        if self._given_celery is not None:
            return self._given_celery
        return make_celery(self.servers.redis_url, prefix=self.settings.redis_prefix)

    @cached_property
    def context(self) -> EngineContext:
        """What verbs work with."""
        side_channel = SideChannel(self.servers.redis_url, self.settings.redis_prefix)
        return EngineContext(
            settings=self.settings,
            database=Database(self.servers.database_url, pool_size=self._pool_size),
            celery=self.celery,
            side_channel=side_channel,
            breakers=Breakers(side_channel.client, side_channel.keys),
            store=SharedDirectory(self.settings.content_root()),
            ledger=Ledger(side_channel.client, side_channel.keys),
            audit_key=audit_key_of(self.settings),
            tracing=open_tracing(),
        )

    @cached_property
    def lease_keeper(self) -> LeaseKeeper:
        """The process's lease keeper."""
        return LeaseKeeper(self.context, Database(self.servers.database_url, pool_size=1))

    def close(self) -> None:
        """Let go of every connection, and of the executors if this process performed work."""
        if "lease_keeper" in self.__dict__:
            self.lease_keeper.close()
            close_executors()
        if "context" in self.__dict__:
            self.context.tracing.close()
            self.context.database.close()
            self.context.side_channel.close()


def with_stack(settings: Settings) -> Settings:
    """Fill in the servers of the running embedded stack, unless the environment names servers."""
    if settings.has_own_servers:
        return settings
    stack = read_state(settings.home)
    if stack is None:
        return settings
    return settings.model_copy(
        update={
            "database_url": SecretStr(stack.database_url),
            "redis_url": SecretStr(stack.redis_url),
            "content_dir": settings.content_dir or Path(stack.content_dir),
            "audit_key": settings.audit_key
            or SecretStr(Path(stack.audit_key_file).read_text(encoding="ascii").strip()),
        }
    )


def servers_of(settings: Settings) -> Servers:
    """Return the servers to use; ServersUnreachable says how to get some."""
    if settings.database_url is None or settings.redis_url is None:
        raise no_servers(settings.home)
    return Servers(settings.database_url.get_secret_value(), settings.redis_url.get_secret_value())


def audit_key_of(settings: Settings) -> bytes:
    """Return the audit key: from the settings, or from ``audit.key`` in the home, made there at first use."""
    if settings.audit_key is not None:
        text = settings.audit_key.get_secret_value()
    else:
        text = _key_file(settings.home / "audit.key")
    if len(text) < 32:
        raise ConfigurationError("AGENTFLOW_AUDIT_KEY must be at least 32 characters, such as `openssl rand -hex 32`")
    return text.encode()


def _key_file(path: Path) -> str:
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (
            suppress(FileExistsError),  # made by an earlier use
            os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file,
        ):
            file.write(secrets.token_hex(32) + "\n")
        return path.read_text(encoding="ascii").strip()
    except OSError as error:
        raise ConfigurationError(
            f"The audit key {path} cannot be made or read: {error}; set AGENTFLOW_AUDIT_KEY"
        ) from error


def current() -> Runtime:
    """Return this process's runtime, built from the environment at first use and anew after a fork."""
    global _current
    with _lock:
        if _current is None or _current.pid != os.getpid():
            given = _current._given_celery if _current is not None else None  # noqa: SLF001 - the same class
            _current = Runtime(load_settings(), celery=given)
        return _current


def flush() -> None:
    """Hand on what this process was told of its work, if it ends without closing its runtime; in a bounded time."""
    if _current is not None and _current.pid == os.getpid() and "context" in _current.__dict__:
        _current.context.tracing.close()


def install(runtime: Runtime) -> None:
    """Make ``runtime`` this process's runtime; children of a fork build their own with the same Celery app."""
    global _current
    with _lock:
        _current = runtime


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()  # another thread of the parent may have held it


os.register_at_fork(after_in_child=_after_fork)
