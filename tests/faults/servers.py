"""Servers for tests that break them: stopped, killed, frozen, emptied, and started again with the data of a moment ago.

Owns nothing of how a server is run: that is agentflow/embedded. Start them from the main thread, which they end with.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

import redis

from agentflow.embedded import EmbeddedPostgres, EmbeddedValkey
from agentflow.embedded.paths import give
from tests.factories import wait_for

Server = TypeVar("Server", EmbeddedPostgres, EmbeddedValkey)


class FaultyServer(Generic[Server]):
    """One server of the test's own, in a home of its own; its url stays from start to start."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self._is_frozen = False

    @property
    def url(self) -> str:
        """How clients reach it; it holds the password."""
        return self.server.url

    @property
    def pid(self) -> int:
        """The server's process, of Postgres the postmaster."""
        assert self.server.pid is not None, "it does not run"
        return self.server.pid

    def stop(self) -> None:
        """Stop it as a person would; what it holds is kept."""
        self.thaw()
        self.server.stop()

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """End it with a signal; SIGQUIT is Postgres' immediate shutdown."""
        self.thaw()
        os.kill(self.pid, number)
        wait_for(lambda: self.server.pid is None)
        self.server.stop()

    def start(self) -> None:
        """Start it, unless it runs, and wait until it answers at the same address as before."""
        before = self.server.port
        self.server.start()
        assert before in (0, self.server.port), "somebody else has taken its port"

    @contextmanager
    def away(self) -> Iterator[None]:
        """Stopped for the length of the block."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    def freeze(self) -> None:
        """Freeze it: it takes connections and answers nothing. Of Postgres that is the postmaster and its backends."""
        self._is_frozen = True
        self._signal_all(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        if self._is_frozen:
            self._is_frozen = False
            self._signal_all(signal.SIGCONT)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Frozen for the length of the block."""
        self.freeze()
        try:
            yield
        finally:
            self.thaw()

    def mend(self) -> None:
        """Leave it running, whatever was done to it."""
        self.thaw()
        self.start()

    def keep_data(self, folder: Path) -> None:
        """Copy what it has on the disk now, for ``put_back``."""
        shutil.copytree(self.server.data, folder, dirs_exist_ok=True)

    def put_back(self, folder: Path) -> None:
        """Give the stopped server the data that ``keep_data`` copied."""
        self.wipe()
        shutil.copytree(folder, self.server.data)
        for path in (self.server.data, *self.server.data.rglob("*")):
            give(path, self.server.account)

    def wipe(self) -> None:
        """Take all data from the stopped server."""
        assert self.server.pid is None, "it still runs"
        shutil.rmtree(self.server.data)

    def _signal_all(self, number: signal.Signals) -> None:
        parent = self.pid
        children = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="ascii").split()
        for pid in (parent, *map(int, children)):
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue


class FaultyRedis(FaultyServer[EmbeddedValkey]):
    """A Valkey of the test's own, and what can be done to it from within."""

    @contextmanager
    def client(self) -> Iterator[Any]:
        """A connection of the test's, not of agentflow's."""
        client = redis.Redis.from_url(self.url)
        try:
            yield client
        finally:
            client.close()

    def flush(self) -> None:
        """FLUSHALL."""
        with self.client() as client:
            client.flushall()

    def cut_all(self) -> int:
        """Cut every client's connection, subscriptions too; returns how many there were."""
        with self.client() as client:
            return sum(int(client.client_kill_filter(_type=kind, skipme=True)) for kind in ("normal", "pubsub"))

    def fill(self) -> None:
        """Leave no room: whatever needs memory is refused from now on, for what it holds is kept (noeviction)."""
        with self.client() as client:
            client.config_set("maxmemory", "1")

    def empty(self) -> None:
        """End what ``fill`` began."""
        with self.client() as client:
            client.config_set("maxmemory", "0")
