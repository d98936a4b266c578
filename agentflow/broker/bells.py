"""The quick side channels over Redis: waking the dispatcher, telling workers to stop attempts, and reports.

All of it is only for speed. Each call survives a Redis that is away: the poll and the rows are the backstop.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import redis
from redis.exceptions import RedisError

from agentflow.broker.keys import Keys
from agentflow.broker.outage import connect
from agentflow.broker.scripts import register
from agentflow.telemetry import get_logger

log = get_logger(__name__)

MAX_REPORTS = 10_000


class StopKind(StrEnum):
    """What attempts are told: to stop for good, or to give their steps back because the run was paused."""

    CANCEL = "cancel"
    YIELD = "yield"


@dataclass(frozen=True, slots=True)
class Stops:
    """Attempts that are told to stop, by their ids as text."""

    kind: StopKind
    attempt_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker's main process saw: ``fields`` as it wrote them, ``raw`` to say later that it was acted on."""

    fields: Mapping[str, Any]
    raw: bytes


class SideChannel:
    """One process's way to Redis beside Celery's."""

    def __init__(self, redis_url: str, prefix: str = "") -> None:
        self.keys = Keys(prefix)
        self._url = redis_url
        self._client = connect(redis_url)
        self._take_reports = register(self._client, "take_reports")

    @property
    def client(self) -> redis.Redis:
        """The process's connections to Redis, for what else of the broker's lives there."""
        return self._client

    def wake(self) -> None:
        """Wake the dispatcher; at most one wake-up waits."""
        try:
            pipe = self._client.pipeline(transaction=False)
            pipe.lpush(self.keys.wakeup, "1")
            pipe.ltrim(self.keys.wakeup, 0, 0)
            pipe.execute()
        except RedisError as error:
            log.warning("wakeup_not_sent", error=str(error))

    def wait_for_wakeup(self, timeout_seconds: float) -> bool:
        """Wait until someone wakes the dispatcher; False after the timeout. Raises RedisError when Redis is away."""
        return self._client.blpop([self.keys.wakeup], timeout=max(0.01, timeout_seconds)) is not None

    def stop_attempts(self, attempt_ids: Iterable[object], kind: StopKind = StopKind.CANCEL) -> None:
        """Tell the workers to stop attempts. A cancel is a plain list, which workers of older versions read too."""
        told = [str(attempt_id) for attempt_id in attempt_ids]
        message = json.dumps(told if kind is StopKind.CANCEL else {"kind": kind.value, "attempts": told})
        try:
            self._client.publish(self.keys.stops, message)
        except RedisError as error:
            log.warning("stop_not_pushed", error=str(error))

    def listen_for_stops(self) -> StopListener:
        """Subscribe to the stops; raises RedisError when Redis is away."""
        return StopListener(self._url, self.keys)

    def report(self, report: Mapping[str, Any]) -> None:
        """Leave a report for the dispatcher and wake it."""
        try:
            pipe = self._client.pipeline(transaction=False)
            pipe.lpush(self.keys.reports, json.dumps(dict(report)))
            pipe.ltrim(self.keys.reports, 0, MAX_REPORTS - 1)
            pipe.lpush(self.keys.wakeup, "1")
            pipe.ltrim(self.keys.wakeup, 0, 0)
            pipe.execute()
        except RedisError as error:
            log.warning("report_not_left", error=str(error))

    def take_reports(self, limit: int = 100) -> list[Report]:
        """Take up to ``limit`` reports, oldest first; what is no report is dropped. RedisError when Redis is away.

        Each comes again, to whoever takes next, until ``finish_report`` or ``postpone_report`` is called with it.
        """
        keys = [self.keys.reports, self.keys.taken_reports]
        taken: list[bytes] = self._take_reports(keys=keys, args=[limit])
        reports = [Report(fields, raw) for raw in taken if (fields := _fields_of(raw)) is not None]
        if len(reports) < len(taken):
            log.warning("reports_not_readable", count=len(taken) - len(reports))
            for raw in set(taken) - {report.raw for report in reports}:
                self._remove_taken(self._client, raw)
        return reports

    def finish_report(self, report: Report) -> None:
        """Say that a report was acted on."""
        try:
            self._remove_taken(self._client, report.raw)
        except RedisError as error:  # it comes again: acting on it twice changes nothing
            log.warning("report_not_finished", error=str(error))

    def postpone_report(self, report: Report) -> None:
        """Put a report behind all others."""
        try:
            pipe = self._client.pipeline(transaction=True)
            pipe.lpush(self.keys.reports, report.raw)
            self._remove_taken(pipe, report.raw)
            pipe.execute()
        except RedisError as error:
            log.warning("report_not_postponed", error=str(error))

    def _remove_taken(self, client: Any, raw: bytes) -> None:
        client.lrem(self.keys.taken_reports, 1, raw)

    def ping(self) -> None:
        """Raise RedisError when Redis does not answer."""
        self._client.ping()

    def close(self) -> None:
        """Close the connections."""
        self._client.close()


def _fields_of(raw: bytes) -> dict[str, Any] | None:
    try:
        report = json.loads(raw)
    except (ValueError, RecursionError):  # whoever may write to this Redis may write anything
        return None
    return report if isinstance(report, dict) else None


def _stops_of(message: bytes) -> Stops | None:
    try:
        told = json.loads(message)
        if isinstance(told, list):
            return Stops(StopKind.CANCEL, tuple(map(str, told)))
        return Stops(StopKind(told["kind"]), tuple(map(str, told["attempts"])))
    except (ValueError, KeyError, TypeError, RecursionError):  # whoever may write to this Redis may write anything
        log.warning("stop_not_readable", bytes=len(message))
        return None


class StopListener:
    """A subscription to the stops; for one thread."""

    def __init__(self, redis_url: str, keys: Keys) -> None:
        client: Any = connect(redis_url)
        self._client = client
        self._subscription = client.pubsub(ignore_subscribe_messages=True)
        self._subscription.subscribe(keys.stops)

    def next_stops(self, timeout_seconds: float) -> Stops | None:
        """Wait for attempts to stop; None after the timeout, and for what is no stop. RedisError when Redis is away."""
        message = self._subscription.get_message(timeout=max(0.0, timeout_seconds))
        return _stops_of(bytes(message["data"])) if message else None

    def close(self) -> None:
        """End the subscription."""
        self._subscription.close()
        self._client.close()
