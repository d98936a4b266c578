"""The dispatcher process beside a worker: started before the worker takes messages and ended with it.

Before it says ``ready`` it has checked that this host may work: the database has the right shape, and the content
store and the audit key are those of the runs. If it refuses, the worker takes nothing and says why. The worker's main
process itself never touches the database.
"""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from typing import Any

from celery import bootsteps
from celery.exceptions import WorkerShutdown, WorkerTerminate
from celery.worker import state

from agentflow.telemetry import get_logger

log = get_logger(__name__)

WATCH_SECONDS = 2.0
CHECK_SECONDS = 0.2
READY, REFUSED = "ready", "refused "


class DispatcherBeside(bootsteps.StartStopStep):
    """Keeps one dispatcher process for as long as the worker lives."""

    requires = ("celery.worker.components:Timer", "celery.worker.components:Pool")

    def __init__(self, worker: Any, **_: Any) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._is_stopping = False
        self._line = Line()
        self._last_words: Callable[[], Mapping[str, Any]] | None = None
        worker.dispatcher_beside = self  # who else in this worker has something to tell

    def start(self, worker: Any) -> None:
        """Start the process and wait for its word; a refusal ends the worker before it took anything."""
        self._process = self._line.attach(start_dispatcher(worker.hostname))
        try:
            word = wait_for_word(self._process, state.maybe_shutdown)
        except (WorkerShutdown, WorkerTerminate):
            self.stop(worker)  # Celery stops no step of a worker that has not started
            raise
        if word != READY:
            self.stop(worker)
            raise SystemExit(f"This worker takes no work: {word.removeprefix(REFUSED)}")
        worker.timer.call_repeatedly(WATCH_SECONDS, self._watch, (worker.hostname,))

    def tell(self, told: Mapping[str, Any]) -> None:
        """Tell the process how the worker stands, to be written into its row; any thread may, and none waits for it."""
        self._line.write(told)

    def let_end_with(self, last_words: Callable[[], Mapping[str, Any]]) -> None:
        """Have ``last_words`` told when the worker stops as it should."""
        self._last_words = last_words

    def stop(self, worker: Any) -> None:
        """End the process."""
        self._is_stopping = True
        if self._last_words is not None:
            self.tell(self._last_words())
        self._line.detach()
        if self._process is not None:
            end_dispatcher(self._process)

    terminate = stop

    def _watch(self, hostname: str) -> None:
        if self._is_stopping or self._process is None or self._process.poll() is None:
            return
        log.warning("dispatcher_ended", exit_code=self._process.returncode)
        self._process = self._line.attach(start_dispatcher(hostname))


class Line:
    """The way to the process: its standard input, as lines of JSON. A pipe that is full or closed loses what is told.

    What is told is how things stand, so that the next line makes up for a lost one.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._rest = b""
        os.register_at_fork(after_in_child=self._let_go)

    def attach(self, process: subprocess.Popen[str]) -> subprocess.Popen[str]:
        """Lead to ``process`` from now on; returns it."""
        with self._lock:
            self._descriptor, self._rest = process.stdin.fileno() if process.stdin else None, b""
            if self._descriptor is not None:
                os.set_blocking(self._descriptor, False)  # ours only: the other end is another file
        return process

    def detach(self) -> None:
        """Lead nowhere."""
        with self._lock:
            self._descriptor = None

    def _let_go(self) -> None:
        """In a pool child that is forked later: while that held the pipe open, the process would not see its end."""
        if self._descriptor is not None:
            with open(os.devnull, "wb") as nothing:  # noqa: PTH123 - for its descriptor alone
                os.dup2(nothing.fileno(), self._descriptor, inheritable=False)
            self._descriptor = None

    def write(self, told: Mapping[str, Any]) -> None:
        """Write one line; the rest of one that found no room goes first."""
        with self._lock:
            self._push()
            if not self._rest:
                self._rest = json.dumps(told).encode() + b"\n"
                self._push()

    def _push(self) -> None:
        if self._descriptor is None:
            self._rest = b""
        elif self._rest:
            try:
                self._rest = self._rest[os.write(self._descriptor, self._rest) :]
            except BlockingIOError:
                return  # full: whoever reads it is frozen
            except OSError:
                self._descriptor = None  # closed: the process has ended, and another is started soon


def start_dispatcher(hostname: str) -> subprocess.Popen[str]:
    """Start a dispatcher process that ends when the pipe to it closes."""
    return subprocess.Popen(
        [sys.executable, "-m", "agentflow.worker.dispatcher_process", hostname],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def wait_for_word(process: subprocess.Popen[str], check: Callable[[], None] = lambda: None) -> str:
    """Wait until the process says whether this host may work; an early end is a refusal.

    While Postgres is away that may be long. ``check`` is called meanwhile and raises to end the wait: Celery's signal
    handlers only note that the worker shall stop.
    """
    stdout = process.stdout
    while stdout and not select.select([stdout], [], [], CHECK_SECONDS)[0]:
        check()
    word = stdout.readline().strip() if stdout else ""
    return word or f"{REFUSED}the dispatcher ended with exit code {process.wait()}"


def end_dispatcher(process: subprocess.Popen[str], *, patience_seconds: float = 5) -> None:
    """Close the pipe and wait; a process that does not end is killed."""
    if process.stdin is not None:
        process.stdin.close()
    try:
        process.wait(timeout=patience_seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
