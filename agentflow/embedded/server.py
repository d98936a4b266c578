"""What the two embedded servers have in common: prepare, launch, wait until ready, find another port, stop.

Owns: the life of one server below `HOME/<name>/` (data, password, port, log). The subclasses own what their server is
told and how one knows that it is ready. Who may own a home is lock.py's matter, the two together are servers.py's.
"""

from __future__ import annotations

import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, Self

from agentflow.domain.error import ConfigurationError, ServersUnreachable
from agentflow.embedded.child import Child, ServerLog
from agentflow.embedded.lock import HomeLock
from agentflow.embedded.paths import kept_password, make_passage, prepare_home, server_account, write_private
from agentflow.embedded.ports import free_port
from agentflow.embedded.process import Stages

_PORT_TRIES = 5
_READY_POLL_SECONDS = 0.01
_PORT_TAKEN = "Address already in use"  # both servers run with LC_ALL=C


class EmbeddedServer(ABC):
    """One server of a home; ``start`` and ``stop``, or a ``with`` block, run it alone and take the home's lock."""

    name: ClassVar[str]
    death_signal: ClassVar[signal.Signals]
    stop_stages: ClassVar[Stages]
    ready_seconds: ClassVar[float]

    def __init__(self, home: Path, *, fsync: bool = True) -> None:
        self.home = home.resolve()
        self.directory = self.home / self.name
        self.data = self.directory / "data"
        self.fsync = fsync
        self.account = server_account()
        self._log = ServerLog(self.directory / f"{self.name}.log")
        self._port_file = self.directory / "port"
        self._lock = HomeLock(self.home)
        self._child: Child | None = None
        self._port = 0
        self._password = ""

    @property
    @abstractmethod
    def url(self) -> str:
        """How a client reaches the server; it holds the password."""

    @property
    def pid(self) -> int | None:
        """The server's process, None while it is not running."""
        return self._child.pid if self._child is not None and self._child.is_running() else None

    @property
    def port(self) -> int:
        """The TCP port on 127.0.0.1: the one of the last start, unless somebody else has taken it."""
        return self._port

    def start(self) -> str:
        """Run this server alone and return its url; an owner of both uses EmbeddedServers. Errors as there."""
        try:
            bring_up((self,), self._lock)
        except BaseException:  # an interrupt too must leave no server behind
            self.stop()
            raise
        return self.url

    def stop(self) -> None:
        """Stop the server, at the latest by SIGKILL, and give the home back if ``start`` took it."""
        if self._child is not None:
            self._child.end(self.stop_stages)
            self._child = None
        self._lock.release()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def launch(self) -> None:
        """Spawn the server unless it runs; the home's lock is the caller's. ``await_ready`` must follow."""
        if self.pid is not None:
            return
        make_passage(self.directory, self.account)
        self._password, is_new = kept_password(self.directory / "password")
        self.prepare(is_new_password=is_new)
        self._spawn(self._remembered_port() or free_port())

    def await_ready(self) -> None:
        """Return once the server answers. ServersUnreachable: it ended, or took longer than ``ready_seconds``."""
        deadline = time.monotonic() + self.ready_seconds
        tries = 1
        while not (self._child is not None and self.is_ready(self._child.pid)):
            if self._child is None or self._child.has_ended(_READY_POLL_SECONDS):
                if tries >= _PORT_TRIES or _PORT_TAKEN not in self._log.text():
                    raise self._did_not_start("ended")
                tries += 1
                self._spawn(free_port())
            elif time.monotonic() >= deadline:
                raise self._did_not_start(f"was not ready within {self.ready_seconds:.0f} s")
        if self._remembered_port() != self._port:
            write_private(self._port_file, str(self._port))

    def ask_to_stop(self) -> None:
        """Send the first signal of a stop and return at once, so that two servers can stop side by side."""
        if self._child is not None:
            self._child.signal(self.stop_stages[0][0])

    def is_alive(self) -> bool:
        """Whether the process lives; an owner that asks regularly also keeps the log within its bound."""
        self._log.trim()
        return self.pid is not None

    @abstractmethod
    def prepare(self, *, is_new_password: bool) -> None:
        """End what a former owner left, make or check the data. ConfigurationError: it cannot be used."""

    @abstractmethod
    def arguments(self, port: int) -> list[str]:
        """The command; never with the password. May write the server's configuration file."""

    @abstractmethod
    def is_ready(self, pid: int) -> bool:
        """Whether the process ``pid`` answers clients."""

    def _spawn(self, port: int) -> None:
        self._port = port
        self._child = Child(self.arguments(port), self.account, self._log, self.death_signal)

    def _remembered_port(self) -> int | None:
        try:
            return int(self._port_file.read_text(encoding="ascii"))
        except (FileNotFoundError, ValueError):
            return None

    def _did_not_start(self, what: str) -> ServersUnreachable:
        said = self._log.text().strip() or "nothing"
        return ServersUnreachable(
            f"The embedded {self.name} {what}. It said:\n{said}",
            log=str(self._log.path),
            why=f"its {self.name} was started and {what}",
        )


def bring_up(servers: Sequence[EmbeddedServer], lock: HomeLock) -> None:
    """Take the home that the servers share, then start those that do not run and wait for all. Errors: as they come."""
    try:
        prepare_home(servers[0].home, servers[0].account)
        lock.acquire()
        for server in servers:  # one comes up while the next is still being prepared
            server.launch()
        for server in servers:
            server.await_ready()
    except PermissionError as error:
        raise ConfigurationError(
            f"{error.filename} belongs to another account. Start agentflow as the account that made this home, or "
            "choose another AGENTFLOW_HOME.",
            path=str(error.filename),
        ) from error
    except OSError as error:
        if error.filename is None:  # no file of the home's
            raise
        raise ConfigurationError(
            f"{error.filename} cannot be used: {error.strerror}. Mend that, or choose another AGENTFLOW_HOME.",
            path=str(error.filename),
        ) from error
