"""The connection behind the client: settings, the runtime that they give, and the check that it may be used.

Owns opening and closing, and that nothing made before a fork is used after it.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection
from sqlalchemy.exc import ProgrammingError

from agentflow.client.conflicts import telling_conflicts
from agentflow.domain.error import ConfigurationError, UsageError
from agentflow.engine.context import EngineContext
from agentflow.runtime import Runtime
from agentflow.settings import Settings, load_settings

UNDEFINED_TABLE = "42P01"
_opening = threading.Lock()


def _renew_lock() -> None:
    global _opening
    _opening = threading.Lock()


os.register_at_fork(after_in_child=_renew_lock)  # a thread that the child does not have may have held it


class Connected:
    """What has settings and, from its first use on, connections to the servers that they name."""

    def __init__(self, settings: Settings | None = None, **overrides: Any) -> None:
        if settings is not None and overrides:
            raise UsageError("Give settings, or single settings by name, not both.")
        self.settings = settings or load_settings(**overrides)
        self._runtime: Runtime | None = None
        self.database_connections = 5
        """How many connections to Postgres it opens at most; to be set before its first use."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of every connection; the next call makes new ones."""
        runtime, self._runtime = self._runtime, None
        if runtime is not None and runtime.pid == os.getpid():
            runtime.close()

    def acting_as(self, actor: str, *, project: str | None = None) -> Self:
        """Return this client in the name of ``actor``, over the same connections; only the original is closed.

        ``project`` goes over that of the settings. Raises ServersUnreachable as ``context`` does.
        """
        self.context  # noqa: B018 - made now, so that the copy shares it
        other = copy(self)
        changed = {"actor": actor} if project is None else {"actor": actor, "project": project}
        other.settings = self.settings.model_copy(update=changed)
        return other

    @property
    def context(self) -> EngineContext:
        """What the engine's verbs work with. ServersUnreachable when no servers are named and none run."""
        runtime = self._runtime
        if runtime is None or runtime.pid != os.getpid():
            runtime = self._open()
        return runtime.context

    def _open(self) -> Runtime:
        """Connect once, however many threads are the first to ask."""
        with _opening:
            if self._runtime is None or self._runtime.pid != os.getpid():
                opened = Runtime(self.settings, pool_size=self.database_connections)
                opened.context  # noqa: B018 - made now, while nobody else can make another
                self._runtime = opened
            return self._runtime

    def _checked_context(self) -> EngineContext:
        """The context, after the check (once) that this process sees the runs' database, store and audit key."""
        from agentflow.engine import installation  # it loads Alembic, which reads do without

        context = self.context
        if self._runtime is not None and not self._runtime.is_checked:
            installation.check(context.database, context.store, context.audit_key)
            self._runtime.is_checked = True
        return context

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        """Open a connection for reads. Each sees its own moment, in a transaction too: one would cost two ways more."""
        try:
            with telling_conflicts(), self.context.database.autocommit() as tx:
                yield tx
        except ProgrammingError as error:
            if getattr(error.orig, "sqlstate", None) == UNDEFINED_TABLE:
                raise ConfigurationError(
                    "The database has no tables of agentflow yet; run `agentflow migrate`."
                ) from error
            raise
