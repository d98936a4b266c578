"""The stack in the process that keeps it: servers, worker, Flower and API from the first start to the last end.

Owns the order of starting (servers, database shape, state file, worker), what happens when one of them ends, and the
order of stopping (the worker drains while the servers still serve it). It must run in the main thread: signals arrive
there, and on Linux the servers live as long as the thread that started them.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from agentflow import __version__
from agentflow.domain.error import ConfigurationError, ServersUnreachable
from agentflow.embedded import EmbeddedServers, StackState, clear_state, process_started, write_state
from agentflow.embedded.child import ServerLog
from agentflow.settings import Settings
from agentflow.stack.api_access import api_url, keep_api_key
from agentflow.stack.companion import (
    Companion,
    api_companion,
    beat_companion,
    flower_companion,
    worker_companion,
)
from agentflow.stack.home import keep_audit_key, last_lines, log_directory
from agentflow.stack.last_end import forget_last_end, keep_last_end
from agentflow.stack.ports import check_api_port, check_flower_port, flower_url
from agentflow.stack.restarts import MOST_RESTARTS, WINDOW_SECONDS, RestartBudget
from agentflow.stack.wishes import Wishes

LOOK_SECONDS = 2.0
READY_SECONDS = 60.0

NewsKind = Literal["servers", "ready", "ended", "back", "stopping"]
Tell = Callable[[NewsKind, str], None]


@dataclass(frozen=True, slots=True)
class StackOptions:
    """What of a stack can be chosen. ``concurrency`` is how many steps the worker performs at once."""

    concurrency: int
    has_flower: bool = False
    has_beat: bool = False
    has_api: bool = False


class Owner(Protocol):
    """Who may be gone before the stack is: a launcher at the other end of ``socket``, None once it has let go."""

    socket: socket.socket | None

    def hear(self) -> bool:
        """Take what there is to read; whether the owner is gone and the stack must go too."""


class Stack:
    """The stack of ``settings.home``; ``run`` is its whole life. ``tell`` hears what a person should know."""

    def __init__(self, settings: Settings, options: StackOptions, tell: Tell, owner: Owner | None = None) -> None:
        self._settings = settings
        self._home = settings.home.absolute()
        self._options = options
        self._tell = tell
        self._owner = owner
        self._servers = EmbeddedServers(self._home)
        self._companions: list[Companion] = []
        self._restarts = RestartBudget()
        self._has_state = False
        self._has_been_ready = False

    def run(self, wishes: Wishes) -> None:
        """Start everything, look after it until a stop is asked for, and end everything.

        AlreadyRunning: another process keeps this home's stack. ConfigurationError, ServersUnreachable: something did
        not start, or a server died again and again; by then nothing runs any more.
        """
        try:
            self._start(wishes)
            self._look_after(wishes)
        except Exception as error:
            if self._has_state:  # others may use it by now, and are told how it went
                keep_last_end(self._home, error)
            raise
        finally:
            wishes.interrupts = False
            self._stop(wishes)

    def _start(self, wishes: Wishes) -> None:
        log_directory(self._home)  # a home that cannot be written is found here, before any server is
        urls = self._servers.start()
        self._check_ports()
        self._tell("servers", "PostgreSQL and Valkey are up")
        key_file = keep_audit_key(self._settings)
        content = self._settings.content_root().absolute()
        _install(urls.database_url, content, key_file)
        state = StackState(
            pid=os.getpid(),
            pid_started=process_started(os.getpid()) or 0.0,
            database_url=urls.database_url,
            redis_url=urls.redis_url,
            content_dir=content,
            audit_key_file=key_file,
            version=__version__,
            api_url=api_url(self._settings) if self._options.has_api else None,
            flower_url=flower_url(os.environ) if self._options.has_flower else None,
            concurrency=self._options.concurrency,
            has_flower=self._options.has_flower,
            has_beat=self._options.has_beat,
        )
        write_state(self._home, state)
        self._has_state = True
        if self._options.has_api:
            keep_api_key(self._settings)
        forget_last_end(self._home)
        wishes.interrupts = False
        self._companions = self._first_companions(content)
        for companion in self._companions:
            companion.start()

    def _check_ports(self) -> None:
        """Ask before anything takes a step, and after the servers: by then no other process starts this stack."""
        if self._options.has_api:
            check_api_port(self._settings)
        if self._options.has_flower:
            check_flower_port(self._settings, os.environ)

    def _first_companions(self, content: Path) -> list[Companion]:
        """Return the worker, and what was asked for beside it."""
        options = self._options
        found = [worker_companion(self._home, content, options.concurrency, has_events=options.has_flower)]
        if options.has_flower:
            found.append(flower_companion(self._home, content))
        if options.has_api:
            found.append(api_companion(self._home, content, self._settings.api_port))
        return found

    def _look_after(self, wishes: Wishes) -> None:
        deadline = time.monotonic() + READY_SECONDS
        while not wishes.stops:
            self._listen(wishes)
            for companion in self._companions:
                self._attend(companion)
            if not self._has_been_ready and time.monotonic() > deadline:
                raise _not_ready(self._companions[0], f"was not ready within {READY_SECONDS:.0f} s")
            self._check_servers()

    def _listen(self, wishes: Wishes) -> None:
        lines = {each.line: each for each in self._companions if each.line is not None}
        owner = self._owner
        owners = [owner.socket] if owner is not None and owner.socket is not None else []
        for line in wishes.wait(self._pause_seconds(), [*lines, *owners]):
            if line in lines:
                self._hear(lines[line])
            elif owner is not None and owner.hear():
                wishes.ask_to_stop()

    def _pause_seconds(self) -> float:
        due = [seconds for each in self._companions if (seconds := each.seconds_to_restart()) is not None]
        return min([LOOK_SECONDS, *due])

    def _hear(self, companion: Companion) -> None:
        if not companion.hear():
            return
        if self._has_been_ready:
            self._tell("back", f"{companion.title} is ready again")
        elif all(each.is_ready for each in self._companions):
            self._has_been_ready = True
            api = f", the API answers at {api_url(self._settings)}" if self._options.has_api else ""
            where = f" at {url}" if (url := flower_url(os.environ)) else ""
            flower = f", and Flower starts{where}" if self._options.has_flower else ""
            self._tell("ready", f"the worker is ready: {self._options.concurrency} steps at once{api}{flower}")
            self._keep_schedules()

    def _keep_schedules(self) -> None:
        """Start beat once the worker is ready: nobody waits for it, and its start would slow the worker's."""
        if self._options.has_beat:
            beat = beat_companion(self._home, self._settings.content_root().absolute())
            self._companions.append(beat)
            beat.start()

    def _attend(self, companion: Companion) -> None:
        companion.log.trim()
        how = companion.take_end()
        if how is not None:
            if not self._has_been_ready:
                raise _not_ready(companion, how)
            seconds = companion.seconds_to_restart() or 0.0
            self._tell("ended", f"{companion.title} {how}; it is started again in {seconds:.1f} s")
        elif companion.seconds_to_restart() == 0.0:
            companion.start()

    def _check_servers(self) -> None:
        """Start again what died, on its port and with its password: worker and clients find it by themselves."""
        dead = self._servers.poll()
        if dead is None:
            return
        log = self._home / dead / f"{dead}.log"
        if not self._restarts.take(time.monotonic()):
            again = f"{dead} ended again after {MOST_RESTARTS} restarts within {WINDOW_SECONDS:.0f} s"
            raise ServersUnreachable(
                f"The embedded {again}, so the stack ends too. The last lines of {log}:\n{last_lines(ServerLog(log))}",
                log=str(log),
                why=f"its {again}",
            )
        self._tell("ended", f"the embedded {dead} ended; it is started again ({log} may say why)")
        self._servers.start()
        self._tell("back", f"the embedded {dead} is up again")

    def _stop(self, wishes: Wishes) -> None:
        try:
            # Of a start that fails too: the worker may hold steps by then, and only it can give them back.
            if any(not each.has_ended() for each in self._companions[:1]):
                self._tell("stopping", "the worker finishes its running steps")
            self._end_companions(wishes, drain_patience(self._settings))
        finally:
            if self._has_state:
                clear_state(self._home)
            self._servers.stop()

    def _end_companions(self, wishes: Wishes, patience_seconds: float) -> None:
        """Let them drain; a second wish to stop, or the end of the patience, kills them."""
        stops, deadline = wishes.stops, time.monotonic() + patience_seconds
        for companion in self._companions:
            companion.ask_to_stop()
        while not all(each.has_ended() for each in self._companions):
            left = deadline - time.monotonic()
            if left <= 0 or wishes.stops > stops:
                break
            wishes.wait(min(left, LOOK_SECONDS))
        for companion in self._companions:
            companion.kill(self._settings.kill_grace_seconds + 5)


def drain_patience(settings: Settings) -> float:
    """Seconds that a worker may take to stop: its grace time, the end of what it kills, and some for the rest."""
    return settings.drain_seconds + settings.kill_grace_seconds + 10


def _install(database_url: str, content: Path, key_file: Path) -> None:
    from agentflow.content.shared_directory import SharedDirectory  # late: Alembic and SQLAlchemy, a second to import
    from agentflow.engine import installation
    from agentflow.storage.database import Database

    database = Database(database_url)
    try:
        installation.install(database, SharedDirectory(content), key_file.read_bytes().strip())
    finally:
        database.close()


def _not_ready(companion: Companion, how: str) -> ConfigurationError:
    """Return the error of a start; ``why`` is its words where another command tells of it later."""
    log, why = companion.log.path, f"{companion.title} {how} before it was ready"
    return ConfigurationError(
        f"{why[:1].upper()}{why[1:]}. The last lines of {log}:\n{last_lines(companion.log)}",
        log=str(log),
        why=why,
    )
