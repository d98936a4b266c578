"""Draining: a stopping worker lets running attempts finish within the grace time, then gives the rest back.

Celery's warm shutdown waits for running tasks without end. At its start a timer is set; when it goes off every process
of the worker releases its attempts: commands are ended, steps are ready again for other workers.
"""

from __future__ import annotations

import os
import threading
from typing import Any

import billiard.pool
from celery import Celery
from celery.signals import worker_process_init, worker_shutting_down

from agentflow import runtime


class _Drain:
    """The line from the worker's main process to its pool children: its end is the signal."""

    def __init__(self, app: Celery, grace_seconds: float) -> None:
        self._app = app
        self._grace_seconds = grace_seconds
        self._read_end, write_end = os.pipe()
        self._write_end: int | None = write_end
        self._has_begun = False
        self._main_pid = os.getpid()

    def begin(self, **_: Any) -> None:
        """In the main process, when it begins to stop; Celery tells so anew with every signal."""
        if self._has_begun:
            return
        self._has_begun = True
        timer = threading.Timer(self._grace_seconds, self._release)
        timer.daemon = True
        timer.start()

    def _release(self) -> None:
        self._close_write_end()
        runtime.current().lease_keeper.drain()  # of the pools that work in this very process

    def listen(self, **_: Any) -> None:
        """In a pool child, when it begins."""
        if os.getpid() == self._main_pid:
            return
        self._close_write_end()
        threading.Thread(target=self._wait, name="drain-listener", daemon=True).start()

    def _close_write_end(self) -> None:
        # Once: by the second time the number may be that of another file. A child forked during the drain finds None.
        write_end, self._write_end = self._write_end, None
        if write_end is not None:
            os.close(write_end)

    def _wait(self) -> None:
        os.read(self._read_end, 1)  # ends when the main process closes its end
        runtime.current().lease_keeper.drain()


def install(app: Celery, grace_seconds: float) -> None:
    """Make workers of ``app`` drain for at most ``grace_seconds``."""
    # A finished child waits for its main process to read its results, and in a stop the main process has often ceased
    # to: 30 s for nothing, since early ack leaves nothing to confirm. Two tenths of a second are enough.
    billiard.pool.GUARANTEE_MESSAGE_CONSUMPTION_RETRY_LIMIT = 2
    line = _Drain(app, grace_seconds)
    worker_shutting_down.connect(line.begin, weak=False)
    worker_process_init.connect(line.listen, weak=False)
