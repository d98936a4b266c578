"""Both embedded servers of one home, under one owner.

Owns: the order in which they start and stop, and the owner's lock. What a single server needs is server.py's.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from agentflow.domain.error import ServersUnreachable
from agentflow.embedded.lock import HomeLock
from agentflow.embedded.postgres import EmbeddedPostgres
from agentflow.embedded.server import EmbeddedServer, bring_up
from agentflow.embedded.valkey import EmbeddedValkey


@dataclass(frozen=True, slots=True)
class ServerUrls:
    """Where the servers are; both urls hold a password, so neither shows in a repr."""

    database_url: str = field(repr=False)
    redis_url: str = field(repr=False)


class EmbeddedServers:
    """A real PostgreSQL and a real Valkey below ``home``, children of this process.

    Start them from a thread that lives as long as they shall, best the main thread: on Linux the kernel ends them with
    the thread that started them. After a fork only the process that started them can stop them.
    ``fsync=False`` is for tests only: a crash of the machine may then cost all data. ``postgres_binaries`` is a
    directory with another PostgreSQL's initdb and postgres.
    """

    def __init__(self, home: Path, *, fsync: bool = True, postgres_binaries: Path | None = None) -> None:
        self.home = home.resolve()
        self.postgres = EmbeddedPostgres(home, fsync=fsync, binaries=postgres_binaries)
        self.valkey = EmbeddedValkey(home, fsync=fsync)
        # In this order: Valkey comes up while PostgreSQL is still being prepared.
        self._servers: tuple[EmbeddedServer, ...] = (self.valkey, self.postgres)
        self._lock = HomeLock(self.home)
        self._owner: int | None = None

    def start(self) -> ServerUrls:
        """Start what does not run and return once both answer; ports and passwords stay from start to start.

        AlreadyRunning: another process owns the home. ConfigurationError: no binaries, data of another version or
        account, a home that the servers' account cannot enter. ServersUnreachable: a server ended or did not answer.
        """
        self._owner = os.getpid()
        try:
            bring_up(self._servers, self._lock)
        except BaseException:  # an interrupt too must leave no server behind
            self.stop()
            raise
        return self.urls

    def stop(self) -> None:
        """Stop both, at the latest by SIGKILL, and give the home back. Nothing happens in a forked child."""
        if self._owner != os.getpid():
            return
        try:
            for server in self._servers:
                server.ask_to_stop()
            for server in self._servers:
                server.stop()
        finally:
            self._owner = None
            self._lock.release()

    @property
    def urls(self) -> ServerUrls:
        """The urls of the running servers. ServersUnreachable: they were not started."""
        if self._owner is None:
            raise ServersUnreachable(f"The embedded servers of {self.home} were not started.")
        return ServerUrls(self.postgres.url, self.valkey.url)

    def poll(self) -> str | None:
        """The name of a server that died, None while both live or none was started.

        Call it every few seconds: it also keeps the logs within their bound.
        """
        if self._owner is None:
            return None
        dead = [server.name for server in self._servers if not server.is_alive()]
        return dead[0] if dead else None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
