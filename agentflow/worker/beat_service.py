"""Beat as agentflow runs it: it keeps the schedules, fires the user's entries, and hosts a dispatcher that stands by.

Runs move on while any dispatcher lives; one in beat leads when no worker's does. The dispatcher is the same program as
beside a worker, in a process of its own. Which beat fires is the scheduler's to find out.
"""

from __future__ import annotations

import atexit
import socket
import subprocess
import threading
from collections.abc import Sequence
from typing import Any

from celery import Celery
from celery.signals import beat_init, setup_logging

from agentflow import runtime, telemetry
from agentflow.broker.app import make_celery
from agentflow.settings import Settings, load_settings
from agentflow.telemetry import get_logger
from agentflow.worker.beside import READY, REFUSED, end_dispatcher, start_dispatcher, wait_for_word

log = get_logger(__name__)

RESTART_SECONDS = 2.0
SCHEDULER = "agentflow.worker.beat_scheduler:PostgresScheduler"
DATABASE_CONNECTIONS = 3
"""One at a time is used, and another when a signal ends beat in the middle of it."""


def make_beat_app(settings: Settings | None = None, *, has_dispatcher: bool = True) -> Celery:
    """Build the app for ``celery -A beat beat``; entries of one's own go into its ``beat_schedule``.

    ServersUnreachable when it is not known where the servers are.
    """
    settings = runtime.with_stack(settings or load_settings())
    servers = runtime.servers_of(settings)
    app = make_celery(servers.redis_url, prefix=settings.redis_prefix)
    app.conf.beat_scheduler = SCHEDULER
    runtime.install(runtime.Runtime(settings, celery=app, pool_size=DATABASE_CONNECTIONS))
    setup_logging.connect(lambda **_: _set_up_logging(settings), weak=False)
    if has_dispatcher:
        host_dispatcher(app)
    return app


def run_beat(arguments: Sequence[str], settings: Settings) -> int:
    """Run beat with the arguments of ``celery beat`` until it is stopped; returns the exit code."""
    return int(make_beat_app(settings).start(["beat", *arguments]) or 0)


def host_dispatcher(app: Celery) -> None:
    """Make the beat of any Celery app host a standby dispatcher; AGENTFLOW_* say for which installation."""
    standby = _StandbyDispatcher(app)
    beat_init.connect(standby.start, weak=False)


class _StandbyDispatcher:
    """Keeps one dispatcher process for as long as beat lives; the pipe to it ends it even if beat is killed."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._name = f"beat@{socket.gethostname()}"
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._process: subprocess.Popen[str] | None = None

    def start(self, sender: Any = None, **_: Any) -> None:
        """Start the dispatcher and wait for its word; a refusal ends beat before it sent anything."""
        if sender is not None and sender.app is not self._app:
            return
        self._process = start_dispatcher(self._name)
        atexit.register(self.stop)
        word = wait_for_word(self._process)
        if word != READY:
            raise SystemExit(f"This beat hosts no dispatcher: {word.removeprefix(REFUSED)}")
        threading.Thread(target=self._keep, name="dispatcher-keeper", daemon=True).start()

    def stop(self) -> None:
        """End the dispatcher; none is started any more."""
        with self._lock:
            self._stopping.set()
            if self._process is not None:
                end_dispatcher(self._process)

    def _keep(self) -> None:
        while self._process is not None:
            code = self._process.wait()
            if self._stopping.wait(RESTART_SECONDS):
                return
            log.warning("dispatcher_ended", exit_code=code)
            with self._lock:
                if not self._stopping.is_set():
                    self._process = start_dispatcher(self._name)


def _set_up_logging(settings: Settings) -> None:
    telemetry.configure(log_format=settings.log_format, level=settings.log_level, is_redacting=settings.is_redacting)
