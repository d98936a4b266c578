"""The dispatcher process beside a worker: started before the worker takes messages and ended with it.

Before it says ``ready`` it has checked that this host may work: the database has the right shape, and the content
store and the audit key are those of the runs. If it refuses, the worker takes nothing and says why. The worker's main
process itself never touches the database.
"""

from __future__ import annotations

import select
import subprocess
import sys
from collections.abc import Callable
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

    def start(self, worker: Any) -> None:
        """Start the process and wait for its word; a refusal ends the worker before it took anything."""
        self._process = start_dispatcher(worker.hostname)
        try:
            word = wait_for_word(self._process, state.maybe_shutdown)
        except (WorkerShutdown, WorkerTerminate):
            self.stop(worker)  # Celery stops no step of a worker that has not started
            raise
        if word != READY:
            self.stop(worker)
            raise SystemExit(f"This worker takes no work: {word.removeprefix(REFUSED)}")
        worker.timer.call_repeatedly(WATCH_SECONDS, self._watch, (worker.hostname,))

    def stop(self, worker: Any) -> None:
        """End the process."""
        self._is_stopping = True
        if self._process is not None:
            end_dispatcher(self._process)

    terminate = stop

    def _watch(self, hostname: str) -> None:
        if self._is_stopping or self._process is None or self._process.poll() is None:
            return
        log.warning("dispatcher_ended", exit_code=self._process.returncode)
        self._process = start_dispatcher(hostname)


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
