"""A process that the stack keeps running beside its servers: the worker, beat, Flower, or the API.

Owns how such a process is started (bound to the stack, its output in a bounded log), when it is started again after an
end, and how it is ended. Whether an end is told, and to whom, is the stack's matter.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from agentflow.domain.error import ConfigurationError
from agentflow.embedded.child import ServerLog
from agentflow.stack.home import log_directory
from agentflow.stack.processes import process_tree, survivors

FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 30.0
#: A process that lived so long is not the one that keeps failing: its end is taken for a first one.
SETTLED_SECONDS = 60.0
WORKER_APP = "agentflow.worker.supervised"
API_PROGRAM = "agentflow.api.supervised"
BEAT_APP = "agentflow.worker.stack_beat"
_PR_SET_PDEATHSIG = 1
_TOLD_BY_THE_STATE_FILE = ("AGENTFLOW_AUDIT_KEY", "AGENTFLOW_AUDIT_KEY_FILE")


def restart_delay_seconds(failures: int) -> float:
    """Seconds to the next start after ``failures`` (1 or more) ends in a row: 0.5, doubled each time, 30 at most."""
    return min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2.0 ** min(failures - 1, 10))


class Companion:
    """One such process. ``is_ready`` once it said so on its line; one without a line is ready when it is started."""

    def __init__(
        self, name: str, arguments: Sequence[str], environment: Mapping[str, str], home: Path, *, has_line: bool = False
    ) -> None:
        self.name = name
        self.log = ServerLog(log_directory(home) / f"{name.lower()}.log")
        self._home = home
        self.is_ready = False
        self.line: socket.socket | None = None
        self._arguments = list(arguments)
        self._environment = dict(environment)
        self._has_line = has_line
        self._process: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._restart_at: float | None = None
        self._failures = 0

    @property
    def title(self) -> str:
        """What it is called in a sentence."""
        return self.name if self.name == "Flower" else f"the {self.name}"

    @property
    def pid(self) -> int | None:
        """The running process, None while there is none."""
        return self._process.pid if self._process is not None else None

    def start(self) -> None:
        """Start the process. ConfigurationError: it cannot be started."""
        ours, theirs = socket.socketpair()
        try:
            with theirs, self.log.open() as output:
                self._process = self._spawn(theirs.fileno() if self._has_line else subprocess.DEVNULL, output.fileno())
        except (OSError, subprocess.SubprocessError) as error:
            ours.close()
            raise ConfigurationError(f"Cannot start {self._arguments[0]}: {error}.") from error
        self.line = ours
        self.is_ready = not self._has_line
        self._started_at, self._restart_at = time.monotonic(), None

    def hear(self) -> bool:
        """Take the word from the line, which has something to read; whether the process became ready by it."""
        said = self.line.recv(64) if self.line is not None else b""
        if said:
            self.is_ready = True
        else:
            self._hang_up()
        return bool(said)

    def take_end(self) -> str | None:
        """Say how the process ended, once, and plan the next start; None while it runs or waits to be started."""
        code = self._process.poll() if self._process is not None else None
        if code is None:
            return None
        self._process = None
        self._hang_up()
        self._failures = 1 if time.monotonic() - self._started_at >= SETTLED_SECONDS else self._failures + 1
        self._restart_at = time.monotonic() + restart_delay_seconds(self._failures)
        return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"

    def seconds_to_restart(self) -> float | None:
        """How long until it is due to be started again; None while it is not to be."""
        return None if self._restart_at is None else max(0.0, self._restart_at - time.monotonic())

    def ask_to_stop(self) -> None:
        """Send SIGTERM; nothing happens when it has ended. It is not started again."""
        self._restart_at = None
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)

    def has_ended(self) -> bool:
        """Whether there is no process."""
        return self._process is None or self._process.poll() is not None

    def kill(self, seconds: float) -> None:
        """SIGKILL it with its pool; then wait, at most so long, until its supervisors have ended its commands."""
        self._restart_at = None
        if self._process is None or self._process.poll() is not None:
            return
        tree = process_tree(self._process.pid)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        survivors(tree, seconds)

    def _spawn(self, stdin: int, output: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._arguments,
            stdin=stdin,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=self._home,  # the caller's directory may be gone when the process is started again
            env=self._environment,
            start_new_session=True,  # a Ctrl-C in the terminal is the stack's to handle
            preexec_fn=_binding(),
        )

    def _hang_up(self) -> None:
        if self.line is not None:
            self.line.close()
            self.line = None


def worker_companion(home: Path, content: Path, concurrency: int, *, has_events: bool) -> Companion:
    """A complete worker for the stack of ``home``; it finds the servers by the home, so no password is handed on."""
    command = [sys.executable, "-m", "celery", "-A", WORKER_APP, "worker"]
    # Alone on a Valkey of its own it has nobody to mingle or gossip with, and asking costs a second.
    command += ["--concurrency", str(concurrency), "--without-mingle", "--without-gossip"]
    environment = _environment(home, content)
    if has_events:
        environment["AGENTFLOW_WORKER_EVENTS"] = "true"
    return Companion("worker", command, environment, home, has_line=True)


def beat_companion(home: Path, content: Path) -> Companion:
    """The beat that keeps the schedules of the stack of ``home``."""
    command = [sys.executable, "-m", "celery", "-A", BEAT_APP, "beat"]
    return Companion("beat", command, _environment(home, content), home)


def flower_companion(home: Path, content: Path) -> Companion:
    """Flower for the stack of ``home``."""
    return Companion("Flower", [sys.executable, "-m", "agentflow", "flower"], _environment(home, content), home)


def api_companion(home: Path, content: Path, port: int) -> Companion:
    """The HTTP API of the stack of ``home``, on this machine only."""
    environment = _environment(home, content) | {"AGENTFLOW_API_PORT": str(port)}
    return Companion("API", [sys.executable, "-P", "-m", API_PROGRAM], environment, home, has_line=True)


def _environment(home: Path, content: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name not in _TOLD_BY_THE_STATE_FILE}
    return {
        **kept,
        "AGENTFLOW_HOME": str(home),
        "AGENTFLOW_CONTENT_DIR": str(content),
        # Celery warns root, because a worker that takes pickled messages runs whatever they hold. This one takes JSON
        # with ids from a Valkey that nobody else has the password of; a newcomer need not be frightened.
        "C_FORCE_ROOT": "1",
        # A plan's python3 is the machine's; where there is none, the Python that runs agentflow serves.
        "PATH": os.pathsep.join([kept.get("PATH") or os.defpath, str(Path(sys.executable).parent)]),
    }


def _binding() -> Callable[[], None]:
    """What binds a child to this process: when the stack is killed the kernel kills the child, and its pool with it."""
    owner = os.getpid()
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None

    def bind() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        if libc is not None:
            libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
            if os.getppid() != owner:  # the stack went before the kernel knew whom to watch
                os.kill(os.getpid(), signal.SIGKILL)

    return bind
