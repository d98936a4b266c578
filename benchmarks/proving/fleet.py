"""The fleet: workers and beats as processes that are started again when they end, as a service manager would do it.

Owns their lives and logs. Every process ends with this program, however this program ends.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from proving.ground import Ground
from tests.workers import children, descendants

RESTART_SECONDS = 0.5
WATCH_SECONDS = 0.1
START_SECONDS = 90.0
# Becomes the program that it is given, bound to its parent: PR_SET_PDEATHSIG outlives an exec.
_TETHER = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, int(signal.SIGKILL), 0, 0, 0)
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(eq=False)
class Member:
    """One process of the fleet, over all its lives."""

    name: str
    command: Sequence[str]
    environment: dict[str, str]
    log: Path
    ready: str
    """What its log says once it works."""
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    exit_codes: list[int] = field(default_factory=list)
    mark: int = 0

    @property
    def is_worker(self) -> bool:
        """Whether it takes messages."""
        return "worker" in self.command

    @property
    def pid(self) -> int | None:
        """The main process, None while it does not run."""
        return self.process.pid if self.process is not None and self.process.poll() is None else None

    def is_ready(self) -> bool:
        """Whether its present life has begun to work."""
        with self.log.open("rb") as file:
            file.seek(self.mark)
            return self.ready.encode() in file.read()

    def pool(self) -> list[int]:
        """Its pool children."""
        return [pid for pid in children(self.pid) if "celery" in _arguments(pid)] if self.pid else []

    def dispatcher(self) -> list[int]:
        """Its dispatcher process."""
        return [pid for pid in children(self.pid) if "dispatcher_process" in _arguments(pid)] if self.pid else []

    def supervisors(self) -> list[int]:
        """The supervisors of its commands."""
        return [pid for pid in descendants(self.pid) if "supervisor.py" in _arguments(pid)] if self.pid else []

    def own(self) -> list[int]:
        """Its main process, pool children and dispatcher; not the supervisors, which end by themselves."""
        return [*self.pool(), *self.dispatcher(), self.pid] if self.pid else []


class Fleet:
    """Processes that are kept running until ``stop``; use it as a context manager."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self.members: list[Member] = []
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._watch: threading.Thread | None = None

    def __enter__(self) -> Fleet:
        # The watching thread starts them all: what the kernel binds to a parent, it binds to the thread.
        self._watch = threading.Thread(target=self._keep, name="fleet", daemon=True)
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self.stop(patience_seconds=0)
        if self._watch is not None:
            self._watch.join()

    def worker(self, name: str, *arguments: str, app: str = "workers", **environment: str) -> Member:
        """Add a worker."""
        options = ["worker", "-n", f"{name}@%h", "--without-gossip", "--without-mingle", "-l", "info", *arguments]
        return self._add(name, ["-A", app, *options], " ready.", **environment)

    def beat(self, name: str) -> Member:
        """Add a beat."""
        return self._add(name, ["-A", "beat", "beat", "-l", "info"], "beat: Starting")

    def find(self, name: str) -> Member:
        """Return a member by its name."""
        return next(member for member in self.members if member.name == name)

    def workers(self) -> list[Member]:
        """The workers whose main process lives."""
        return [member for member in self.members if member.is_worker and member.pid is not None]

    def wait_until_ready(self) -> None:
        """Wait until every member works; the log of one that does not is the error."""
        deadline = time.monotonic() + START_SECONDS
        for member in self.members:
            while member.pid is None or not member.is_ready():
                if time.monotonic() > deadline:
                    raise SystemExit(f"{member.name} does not start:\n{member.log.read_text(errors='replace')[-3000:]}")
                time.sleep(WATCH_SECONDS)

    def dismiss(self, member: Member) -> None:
        """Kill a member and start it no more."""
        with self._lock:
            self.members.remove(member)
        for pid in member.own():
            kill(pid, signal.SIGKILL)
        if member.process is not None:
            member.process.wait(10)

    def stop(self, patience_seconds: float = 60) -> dict[str, int]:
        """Stop all with SIGTERM, at last by SIGKILL; returns the exit codes by name."""
        with self._lock:
            members, self.members = self.members, []
        living = [member for member in members if member.pid is not None]
        for member in living:
            for pid in member.own():
                kill(pid, signal.SIGCONT)
            kill(member.pid, signal.SIGTERM)
        deadline = time.monotonic() + patience_seconds
        codes: dict[str, int] = {}
        for member in living:
            process = member.process
            if process is None:
                continue
            try:
                codes[member.name] = process.wait(max(0.0, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                for pid in member.own():
                    kill(pid, signal.SIGKILL)
                codes[member.name] = process.wait(10)
        return codes

    def _add(self, name: str, options: Sequence[str], ready: str, **environment: str) -> Member:
        log = self._ground.logs / f"{name}.log"
        log.touch()
        command = [sys.executable, "-m", "celery", *options]
        member = Member(name, command, self._ground.environment(**environment), log, ready)
        with self._lock:
            self.members.append(member)
        return member

    def _keep(self) -> None:
        while not self._stopping.wait(WATCH_SECONDS):
            with self._lock:
                members = list(self.members)
            for member in members:
                if member.pid is None:
                    self._start(member)

    def _start(self, member: Member) -> None:
        if member.process is not None:
            member.exit_codes.append(member.process.returncode)
            if self._stopping.wait(RESTART_SECONDS):
                return
        with self._lock:
            if member not in self.members:
                return
            member.mark = member.log.stat().st_size
            with member.log.open("ab") as log:
                member.process = subprocess.Popen(
                    [sys.executable, "-I", "-S", "-c", _TETHER, str(os.getpid()), *member.command],
                    cwd=self._ground.home,
                    env=member.environment,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            member.starts += 1


def kill(pid: int | None, number: signal.Signals) -> None:
    """Send a signal to a process that may be gone."""
    if pid is not None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)


def _arguments(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        return ""
