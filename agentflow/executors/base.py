"""What an executor is, and the lifeline between the heartbeat and a running attempt.

Owns the Executor protocol, the registry over entry points and Lifeline. Does not claim, settle or touch rows:
an executor gets a finished assignment and returns what happened.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from enum import StrEnum


class StopReason(StrEnum):
    """Why a running attempt is told to stop."""

    CANCELLED = "cancelled"
    DRAINED = "drained"
    LEASE_LOST = "lease_lost"


class Lifeline:
    """Links the heartbeat of a worker process to one running attempt; safe to use from any thread.

    The heartbeat calls ``renew`` after each extension of the lease and ``stop`` when the work must end; the
    executor registers callbacks for both. A callback registered after the fact is called at once.
    """

    def __init__(self, lease_seconds: float) -> None:
        self.lease_seconds = lease_seconds
        self._lock = threading.Lock()
        self._stop_reason: StopReason | None = None
        self._stop_callbacks: list[Callable[[StopReason], None]] = []
        self._renew_callbacks: list[Callable[[float], None]] = []

    @property
    def stop_reason(self) -> StopReason | None:
        """Why the work must end, or None while it may go on."""
        return self._stop_reason

    def stop(self, reason: StopReason) -> None:
        """End the work; the first reason wins."""
        with self._lock:
            if self._stop_reason is not None:
                return
            self._stop_reason = reason
            callbacks = list(self._stop_callbacks)
        for callback in callbacks:
            callback(reason)

    def renew(self, ttl_seconds: float) -> None:
        """Tell the work that its lease now holds for ``ttl_seconds`` more."""
        with self._lock:
            callbacks = list(self._renew_callbacks)
        for callback in callbacks:
            callback(ttl_seconds)

    def on_stop(self, callback: Callable[[StopReason], None]) -> None:
        """Call ``callback`` once when the work must end."""
        with self._lock:
            self._stop_callbacks.append(callback)
            reason = self._stop_reason
        if reason is not None:
            callback(reason)

    def on_renew(self, callback: Callable[[float], None]) -> None:
        """Call ``callback`` with the seconds left at each renewal of the lease."""
        with self._lock:
            self._renew_callbacks.append(callback)
