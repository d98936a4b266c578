"""Events on loan: a worker sends task events for as long as some Flower says that it watches.

Every Flower says so every few seconds and says when it goes; one that was killed is forgotten once it is silent. What
others decided is not touched: events that the worker was started with stay on, and so do those that Celery's own
`enable_events` turned on. Owns the loans of this worker; what is said, and how often, is broker/monitor_events.py's.
"""

from __future__ import annotations

import time
from typing import Any

from celery import bootsteps
from celery.worker.control import Panel

from agentflow.broker.monitor_events import LOAN_SECONDS, WATCH_COMMAND
from agentflow.telemetry import get_logger

log = get_logger(__name__)

GROUP = "task"
LOOK_SECONDS = 2.0


class EventLoans(bootsteps.StartStopStep):
    """The monitors that this worker sends events for, each with the moment at which it is taken for gone."""

    requires = ("celery.worker.components:Timer",)

    def __init__(self, worker: Any, **_: Any) -> None:
        self._until: dict[str, float] = {}
        Panel.data[WATCH_COMMAND] = self.watch

    def start(self, worker: Any) -> None:
        """Begin to look for monitors that are gone."""
        # The worker's, not the consumer's: what is timed while a connection stands goes with it.
        worker.timer.call_repeatedly(LOOK_SECONDS, self._look, (worker,))

    def watch(self, state: Any, monitor: str = "", seconds: float = LOAN_SECONDS, **_: Any) -> dict[str, str]:
        """Send events for ``seconds`` more, as ``monitor`` asks; 0 says that it goes."""
        sender = state.consumer.event_dispatcher
        if sender is None:
            return {"error": "not connected"}
        if not sender.groups:
            return {"ok": "events are on by this worker's own settings"}
        if GROUP in sender.groups and not self._until:
            return {"ok": "events were turned on by another"}
        self._until[str(monitor)] = time.monotonic() + max(0.0, min(float(seconds), LOAN_SECONDS))
        self._settle(sender)
        return {"ok": f"events are on loan to {len(self._until)}"}

    def _look(self, worker: Any) -> None:
        sender = worker.consumer.event_dispatcher if worker.consumer else None
        if self._until and sender is not None:  # without a connection nothing is sent: the next look decides
            self._settle(sender)

    def _settle(self, sender: Any) -> None:
        """Forget the monitors whose time is over; send events for the others, or no more."""
        now = time.monotonic()
        self._until = {monitor: until for monitor, until in self._until.items() if until > now}
        if self._until and GROUP not in sender.groups:
            sender.groups.add(GROUP)
            log.info("events_lent")
        elif not self._until and GROUP in sender.groups:
            sender.groups.discard(GROUP)
            log.info("events_no_longer_lent")
