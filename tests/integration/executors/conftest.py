"""Commands whose processes can be told apart from all others, and pools that are closed again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from agentflow.executors.command import Command
from agentflow.executors.supervisor_pool import SupervisorPool

_OWNER = Path(__file__).with_name("supervisor_owner.py")
_ROOT = Path(__file__).parents[3]
WaitFor = Callable[..., None]

# All ignore SIGTERM: the main process, its children, one in a session of its own, one forked twice with children.
STUBBORN = """
trap '' TERM
sleep 300 &
setsid sleep 301 &
(setsid sh -c 'sleep 302 & sleep 303' &)
echo ready
sleep 304
sleep 305
"""
STUBBORN_PROCESSES = 7


def wait_for(state: Callable[[], bool], what: str, seconds: float = 10.0) -> None:
    """Wait until ``state`` holds; fail, saying ``what`` did not happen."""
    deadline, pause = time.monotonic() + seconds, threading.Event()
    while not state():
        if time.monotonic() > deadline:
            pytest.fail(f"{what} within {seconds} s did not happen")
        pause.wait(0.01)


class Marked:
    """The processes of one test: all that carry its mark in their environment."""

    def __init__(self) -> None:
        self.variable, self.value = "TEST_MARK", uuid.uuid4().hex

    @property
    def environment(self) -> dict[str, str]:
        return {self.variable: self.value}

    def pids(self) -> set[int]:
        """Those that live now (a zombie has no environment)."""
        wanted = f"{self.variable}={self.value}".encode()
        found = set()
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.add(int(entry.name))
            except OSError:
                continue  # it ended meanwhile
        return found

    def is_gone(self) -> bool:
        """Whether none lives; looked at twice, for one look takes time in which a process may fork."""
        return not self.pids() and not self.pids()


@dataclass(frozen=True)
class Tree:
    """A script that starts ``processes`` processes, its own included."""

    script: str
    processes: int


@pytest.fixture
def stubborn() -> Tree:
    return Tree(STUBBORN, STUBBORN_PROCESSES)


@pytest.fixture(name="wait_for")
def wait_for_fixture() -> WaitFor:
    return wait_for


@pytest.fixture
def marked() -> Iterator[Marked]:
    marked = Marked()
    yield marked
    for pid in marked.pids():
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def pool() -> Iterator[SupervisorPool]:
    pool = SupervisorPool()
    yield pool
    pool.close()


@pytest.fixture
def command(tmp_path: Path, marked: Marked) -> Callable[..., Command]:
    """Make a command; a lone string is a shell text."""

    def make(*argv: str, **changes: Any) -> Command:
        given: dict[str, Any] = {
            "argv": ("/bin/sh", "-c", *argv) if len(argv) == 1 else argv,
            "env": {"PATH": os.environ["PATH"], **marked.environment, **changes.pop("env", {})},
            "cwd": tmp_path,
            "stdin": None,
            "stdout": tmp_path / "stdout",
            "stderr": tmp_path / "stderr",
            "output_limit_bytes": 1_000_000,
            "masks": (),
            "timeout_seconds": 30.0,
            "kill_grace_seconds": 0.3,
        }
        return Command(**{**given, **changes})

    return make


class Owner:
    """A process of its own that runs commands as it is told, see supervisor_owner.py."""

    def __init__(self, marked: Marked, *, setup: str = "") -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(_OWNER), setup],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **marked.environment, "PYTHONPATH": os.pathsep.join([str(_ROOT), *sys.path])},
        )
        self.pid = self._process.pid
        self.hear()

    def ask(self, do: str, **what: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"do": do, **what}) + "\n")
        self._process.stdin.flush()

    def hear(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the owner ended"
        heard: dict[str, Any] = json.loads(line)
        return heard

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> None:
        self._process.kill()
        self._process.wait()  # not for the end of its output: a fork of it may hold that open
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()


@pytest.fixture
def start_owner(marked: Marked) -> Iterator[Callable[..., Owner]]:
    owners: list[Owner] = []

    def start(**how: Any) -> Owner:
        owners.append(Owner(marked, **how))
        return owners[-1]

    yield start
    for owner in owners:
        owner.end()
