"""The lease keeper of a process: a thread extends the leases of all its attempts, another hears when to stop them.

A stop comes through Redis within milliseconds, or with the next heartbeat from the rows. The heartbeat has a thread and
a connection to Postgres of its own, so that neither a Redis that hangs nor a busy pool costs a lease. An attempt whose
lease could not be extended in time is ended here, since somebody else may have it by then: by a third thread, which
looks at nothing but the clock, so that no server that hangs can keep it from that.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from redis.exceptions import RedisError

from agentflow.broker.bells import StopKind, StopListener
from agentflow.domain.error import ServersUnreachable
from agentflow.domain.ids import AttemptId, ClaimToken
from agentflow.engine.context import EngineContext
from agentflow.executors.base import Lifeline, StopReason
from agentflow.storage import attempts
from agentflow.storage.database import Database
from agentflow.telemetry import get_logger

log = get_logger(__name__)

LISTEN_SECONDS = 1.0
WATCHES_PER_BEAT = 10
STOP_REASONS = {StopKind.CANCEL: StopReason.CANCELLED, StopKind.YIELD: StopReason.PAUSED}
REMEMBERED_STOPS = 1024
"""A stop may be heard before the attempt's claim has come back: so many are kept for those that are still to begin."""


@dataclass(slots=True)
class _Lease:
    claim_token: ClaimToken
    lifeline: Lifeline
    ends_at: float  # on this process's monotonic clock, counted from before the database set it: never too late


class LeaseKeeper:
    """Keeps the leases of one process; its threads start with the first lease and end with the process."""

    def __init__(self, context: EngineContext, database: Database) -> None:
        """``database`` is used for heartbeats only; one connection is enough."""
        self._context = context
        self._database = database
        self._lock = threading.Lock()
        self._leases: dict[AttemptId, _Lease] = {}
        self._stopped: deque[tuple[str, StopReason]] = deque(maxlen=REMEMBERED_STOPS)
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []
        self._is_draining = False
        self._listener: StopListener | None = None

    @contextmanager
    def keeping(self, attempt_id: AttemptId, claim_token: ClaimToken, claimed_at: float) -> Iterator[Lifeline]:
        """Keep a lease for the length of the block; ``claimed_at`` is the monotonic time before the claim."""
        lifeline = Lifeline(self._context.settings.lease_seconds)
        lease = _Lease(claim_token, lifeline, claimed_at + self._context.settings.lease_seconds)
        with self._lock:
            self._leases[attempt_id] = lease
            stops = [reason for stopped, reason in self._stopped if stopped == str(attempt_id)]
            is_draining = self._is_draining
            if not self._threads:
                self._start()
        for reason in stops:
            lifeline.stop(reason)
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
        """End the threads, once their current waits are over."""
        self._closing.set()
        self._database.close()

    def _start(self) -> None:
        self._threads = [
            threading.Thread(target=self._repeat, args=(work,), name=name, daemon=True)
            for name, work in (
                ("lease-keeper", self._beat_in_time),
                ("stop-listener", self._hear_stops),
                ("lease-watch", self._end_in_time),
            )
        ]
        for thread in self._threads:
            thread.start()

    def _repeat(self, work: Callable[[], None]) -> None:
        while not self._closing.is_set():
            try:
                work()
            except Exception:  # without these threads every later attempt of the process would be lost
                log.exception("lease_keeper_stumbled", work=work.__name__)
                self._closing.wait(LISTEN_SECONDS)

    def _hear_stops(self) -> None:
        try:
            if self._listener is None:
                self._listener = self._context.side_channel.listen_for_stops()
            stops = self._listener.next_stops(LISTEN_SECONDS)
        except RedisError as error:
            log.debug("stops_not_heard", error=str(error))
            self._listener = None
            self._closing.wait(LISTEN_SECONDS)  # the rows tell with the next heartbeat
            return
        if stops is None:
            return
        told, reason = set(stops.attempt_ids), STOP_REASONS[stops.kind]
        with self._lock:
            self._stopped.extend((attempt_id, reason) for attempt_id in told)
            asked = [lease.lifeline for attempt_id, lease in self._leases.items() if str(attempt_id) in told]
        for lifeline in asked:
            lifeline.stop(reason)

    def _beat_in_time(self) -> None:
        self._closing.wait(self._context.settings.heartbeat_seconds)
        with self._lock:
            leases = dict(self._leases)
        if not leases or self._closing.is_set():
            return
        try:
            self._beat(leases)
        except ServersUnreachable as error:
            log.warning("leases_not_extended", leases=len(leases), error=str(error))

    def _beat(self, leases: dict[AttemptId, _Lease]) -> None:
        asked_at = time.monotonic()
        tokens = {attempt_id: lease.claim_token for attempt_id, lease in leases.items()}
        with self._database.transaction() as tx:
            standing = attempts.extend_leases(tx, tokens, self._context.settings.lease_seconds)
        for attempt_id, lease in leases.items():
            self._apply(attempt_id, lease, standing.get(lease.claim_token), asked_at)

    def _apply(
        self, attempt_id: AttemptId, lease: _Lease, standing: attempts.StandingLease | None, asked_at: float
    ) -> None:
        if standing is None:
            with self._lock:
                is_over = attempt_id not in self._leases  # settled meanwhile: nothing was lost
            if not is_over:
                if not lease.lifeline.is_work_done:  # else it may just have settled, and a refused settle says so
                    log.warning("lease_lost", attempt_id=str(attempt_id))
                lease.lifeline.stop(StopReason.LEASE_LOST)
            return
        lease.ends_at = asked_at + self._context.settings.lease_seconds
        lease.lifeline.renew(self._context.settings.lease_seconds)
        if standing.is_stop_requested:
            lease.lifeline.stop(StopReason.CANCELLED)
        elif standing.is_yield_requested:
            lease.lifeline.stop(StopReason.PAUSED)

    def _end_in_time(self) -> None:
        self._closing.wait(self._context.settings.heartbeat_seconds / WATCHES_PER_BEAT)
        with self._lock:
            leases = dict(self._leases)
        now = time.monotonic()
        for attempt_id, lease in leases.items():
            if lease.ends_at <= now and not lease.lifeline.is_lease_lost:
                log.warning("lease_lapsed", attempt_id=str(attempt_id))
                lease.lifeline.stop(StopReason.LEASE_LOST)
