"""The watchdog of a worker: notices that it consumes nothing although messages wait, whatever its heartbeat says.

Owns looking, and what is done: first the consumer is made to connect anew, and if it still takes nothing the worker
ends for its supervisor. A thread with a Redis connection of its own, since the event loop may be what hangs. The
judgement is domain/starvation.py's. It also tells the dispatcher beside how the worker stands, for the same reason.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import Any

from celery import bootsteps
from celery.signals import worker_shutting_down
from celery.worker import state

from agentflow import runtime
from agentflow.broker.queue_lengths import QueueLengths
from agentflow.domain.starvation import Look, StarvationClock, Verdict
from agentflow.settings import Settings
from agentflow.telemetry import get_logger
from agentflow.worker.consumption import Consumption

log = get_logger(__name__)

LOOK_SECONDS = 2.0
EXIT_CODE = 110
"""What a worker ends with that could not be made to consume; the number of ETIMEDOUT."""
IDLE_PATIENCE_SECONDS = 5.0
"""What a worker without work may take to end in the usual way."""


class ConsumptionWatch(bootsteps.StartStopStep):
    """Keeps the watchdog for as long as the worker lives."""

    requires = ("agentflow.worker.beside:DispatcherBeside",)

    def __init__(self, worker: Any, **_: Any) -> None:
        self._watchdog: Watchdog | None = None

    def start(self, worker: Any) -> None:
        """Begin to look; the dispatcher has said by now that this worker may take messages."""
        self._watchdog = Watchdog(worker, runtime.current())
        self._watchdog.start()

    def stop(self, worker: Any) -> None:
        """Cease to look."""
        if self._watchdog is not None:
            self._watchdog.stop()

    terminate = stop


class Watchdog:
    """One worker's watchdog."""

    def __init__(self, worker: Any, house: runtime.Runtime) -> None:
        self._worker = worker
        self._settings = house.settings
        self._consumption = Consumption.of(worker)
        self._lengths = QueueLengths.connect(house.servers.redis_url, house.settings.redis_prefix)
        self._look_seconds = min(LOOK_SECONDS, house.settings.starvation_seconds / 5)
        self._clock = StarvationClock(house.settings.starvation_seconds, self._look_seconds)
        self._stopping = threading.Event()
        self._news = threading.Event()
        worker.dispatcher_beside.let_end_with(lambda: self._consumption.told(has_ended=True))
        worker_shutting_down.connect(self._hasten, weak=False)

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """Cease to look."""
        self._stopping.set()
        self._news.set()

    def _hasten(self, **_: Any) -> None:
        self._news.set()  # that it drains is told at once

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._attend()
            except Exception:  # without this thread the worker's row goes stale, and nobody notices that it is deaf
                log.exception("watchdog_stumbled")
            self._news.wait(self._look_seconds)
            self._news.clear()
        self._lengths.close()

    def _attend(self) -> None:
        self._worker.dispatcher_beside.tell(self._consumption.told())
        match self._clock.judge(self._look()):
            case Verdict.RECONNECT:
                self._reconnect()
            case Verdict.EXIT:
                self._exit()
            case Verdict.LEAVE:
                pass

    def _look(self) -> Look:
        seen = self._consumption
        connected_at = seen.since_when_connected()
        consumed = seen.consumed  # before the lengths: what is taken meanwhile shows at the next look
        lengths = self._lengths.read(seen.queues)
        return Look(time.monotonic(), lengths, consumed, seen.busy < seen.slots, connected_at, seen.is_draining)

    def _reconnect(self) -> None:
        """Have the event loop lose the connection, so that the consumer makes a new one; a loop that hangs does not."""
        self._tell("reconnect")
        self._worker.consumer.call_soon(_lose_connection, self._worker.consumer)

    def _exit(self) -> None:
        """End the worker as a stop does, or, if it does not end like that, at once."""
        self._tell("exit")
        patience_seconds = _drain_patience(self._settings) if self._consumption.busy else IDLE_PATIENCE_SECONDS
        worker_shutting_down.send(sender=self._worker.hostname, sig="", how="Warm", exitcode=EXIT_CODE)
        state.should_stop = EXIT_CODE
        threading.Event().wait(patience_seconds)  # the process ends meanwhile, and this thread with it
        log.critical("worker_ended_by_force", exit_code=EXIT_CODE)
        sys.stderr.flush()
        os._exit(EXIT_CODE)

    def _tell(self, action: str) -> None:
        waiting = sorted(self._clock.waiting)
        log.error("consumption_stalled", action=action, queues=waiting, seconds=self._settings.starvation_seconds)


def _drain_patience(settings: Settings) -> float:
    """Seconds that a worker with work may take: its grace time, the end of what it kills, and some for the rest."""
    return settings.drain_seconds + settings.kill_grace_seconds + 10


def _lose_connection(consumer: Any) -> None:
    if consumer.connection is not None:  # else it is connecting already
        raise ConnectionError("the consumer takes nothing although messages wait")
