"""Celery's task events as agentflow sends them itself: for what became of a step without a message of its own.

A worker tells monitors of the messages it handles. A cancel of a step that waits for its retry, a rescue, a `retry`
happen elsewhere, and a monitor that is not told of them shows an old state for ever. Events are droppable.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any
from uuid import uuid4

from celery import Celery
from kombu.exceptions import OperationalError
from redis.exceptions import RedisError

from agentflow.broker.producing import producing
from agentflow.telemetry import get_logger

log = get_logger(__name__)

WATCH_COMMAND = "watch_events"
"""By this remote control command a Flower borrows the workers' events; see worker/event_loans.py."""
LOAN_SECONDS = 15.0
"""For how long one command keeps events on."""
RENEW_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """One event: ``type`` such as task-revoked, the task's id, the worker it is shown under, and Celery's fields."""

    type: str
    task_id: str
    hostname: str
    fields: Mapping[str, Any] = field(default_factory=dict)


def publish(app: Celery, events: Iterable[TaskEvent]) -> None:
    """Publish events. ServersUnreachable when Redis does not take one; the rest is not sent then."""
    to_send = list(events)
    if not to_send:
        return
    with producing(app) as producer:
        # Left to itself kombu tries for six seconds, in which the dispatcher would do nothing else.
        producer.connection.ensure_connection(max_retries=1, interval_start=0, interval_step=0)
        for hostname, group in groupby(to_send, key=lambda event: event.hostname):
            dispatcher = app.events.Dispatcher(producer.connection, hostname, True, producer.channel, False)
            for event in group:
                dispatcher.send(
                    event.type,
                    uuid=event.task_id,
                    retry=True,  # a pooled connection may have gone stale
                    retry_policy=app.conf.task_publish_retry_policy,
                    **event.fields,
                )


class Watching:
    """What one monitor says to the workers: that it watches, often enough not to be forgotten, and that it goes."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._name = uuid4().hex
        self._lock = threading.Lock()
        self._has_ended = False

    def renew(self) -> None:
        """Keep the workers' events on; a server that is away is logged, as the next time comes soon."""
        with self._lock:
            if not self._has_ended:
                self._say(LOAN_SECONDS)

    def end(self) -> None:
        """Say that nobody watches here any more; nothing is renewed after that."""
        with self._lock:
            self._has_ended = True
            self._say(0)

    def _say(self, seconds: float) -> None:
        told = {"monitor": self._name, "seconds": seconds}
        try:
            with self._app.connection_for_write() as connection:  # a pooled one may have gone stale
                self._app.control.broadcast(WATCH_COMMAND, arguments=told, connection=connection)
        except (OperationalError, RedisError, OSError) as error:
            log.warning("workers_not_asked_for_events", error=str(error))
