"""The lease keeper: one thread a process that extends the leases of all its attempts and hears when to stop them.

A stop comes through Redis within milliseconds, or with the next heartbeat from the rows. An attempt whose lease could
not be extended in time is ended here, since somebody else may have it by then. Owns no rows: it extends and reads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from redis.exceptions import RedisError

from agentflow.broker.bells import StopListener
from agentflow.domain.error import ServersUnreachable
from agentflow.domain.ids import AttemptId, ClaimToken
from agentflow.engine.context import EngineContext
from agentflow.executors.base import Lifeline, StopReason
from agentflow.storage import attempts
from agentflow.telemetry import get_logger

log = get_logger(__name__)


@dataclass(slots=True)
class _Lease:
    claim_token: ClaimToken
    lifeline: Lifeline
    ends_at: float  # on this process's monotonic clock, counted from before the database set it: never too late


class LeaseKeeper:
    """Keeps the leases of one process; its thread starts with the first lease and ends with the process."""

    def __init__(self, context: EngineContext) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._leases: dict[AttemptId, _Lease] = {}
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None
        self._is_draining = False
        self._listener: StopListener | None = None

    @contextmanager
    def keeping(self, attempt_id: AttemptId, claim_token: ClaimToken, claimed_at: float) -> Iterator[Lifeline]:
        """Keep a lease for the length of the block; ``claimed_at`` is the monotonic time before the claim."""
        lifeline = Lifeline(self._context.settings.lease_seconds)
        lease = _Lease(claim_token, lifeline, claimed_at + self._context.settings.lease_seconds)
        with self._lock:
            self._leases[attempt_id] = lease
            is_draining = self._is_draining
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="lease-keeper", daemon=True)
                self._thread.start()
        if is_draining:
            lifeline.stop(StopReason.DRAINED)
        try:
            yield lifeline
        finally:
            with self._lock:
                self._leases.pop(attempt_id, None)

    def drain(self) -> None:
        """Give every attempt back, and each one that begins from now on."""
        with self._lock:
            self._is_draining = True
            leases = list(self._leases.values())
        for lease in leases:
            lease.lifeline.stop(StopReason.DRAINED)

    def close(self) -> None:
        """End the thread, once its current wait is over."""
        self._closing.set()

    def _run(self) -> None:
        next_beat = time.monotonic() + self._context.settings.heartbeat_seconds
        while not self._closing.is_set():
            self._hear_stops(max(0.0, next_beat - time.monotonic()))
            if time.monotonic() >= next_beat:
                next_beat = time.monotonic() + self._context.settings.heartbeat_seconds
                self._beat()
        if self._listener is not None:
            self._listener.close()

    def _hear_stops(self, timeout_seconds: float) -> None:
        try:
            if self._listener is None:
                self._listener = self._context.side_channel.listen_for_stops()
            stops = self._listener.next_stops(min(timeout_seconds, 1.0))
        except RedisError as error:
            log.debug("stops_not_heard", error=str(error))
            self._listener = None
            self._closing.wait(min(timeout_seconds, 1.0))  # the rows tell with the next heartbeat
            return
        asked = set(stops)
        with self._lock:
            lifelines = [lease.lifeline for attempt_id, lease in self._leases.items() if str(attempt_id) in asked]
        for lifeline in lifelines:
            lifeline.stop(StopReason.CANCELLED)

    def _beat(self) -> None:
        with self._lock:
            leases = dict(self._leases)
        if not leases:
            return
        asked_at = time.monotonic()
        try:
            with self._context.database.transaction() as tx:
                tokens = {attempt_id: lease.claim_token for attempt_id, lease in leases.items()}
                standing = attempts.extend_leases(tx, tokens, self._context.settings.lease_seconds)
        except ServersUnreachable as error:
            log.warning("leases_not_extended", leases=len(leases), error=str(error))
            self._end_lapsed(leases)
            return
        for attempt_id, lease in leases.items():
            self._apply(attempt_id, lease, standing.get(lease.claim_token), asked_at)

    def _apply(self, attempt_id: AttemptId, lease: _Lease, is_stop_requested: bool | None, asked_at: float) -> None:
        if is_stop_requested is None:
            with self._lock:
                is_over = attempt_id not in self._leases  # settled meanwhile: nothing was lost
            if not is_over:
                log.warning("lease_lost", attempt_id=str(attempt_id))
                lease.lifeline.stop(StopReason.LEASE_LOST)
            return
        lease.ends_at = asked_at + self._context.settings.lease_seconds
        lease.lifeline.renew(self._context.settings.lease_seconds)
        if is_stop_requested:
            lease.lifeline.stop(StopReason.CANCELLED)

    def _end_lapsed(self, leases: dict[AttemptId, _Lease]) -> None:
        now = time.monotonic()
        for attempt_id, lease in leases.items():
            if lease.ends_at <= now:
                log.warning("lease_lapsed", attempt_id=str(attempt_id))
                lease.lifeline.stop(StopReason.LEASE_LOST)
