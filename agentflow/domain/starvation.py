"""When a worker starves: messages wait in queues that it serves, it has free slots, and it takes nothing.

Owns the judgement, from looks that are some seconds apart. A worker that listens takes a waiting message within
milliseconds, so that a queue which is never found empty is enough: whether others take from it does not matter. One
that has no connection, or has had it for a short time only, does not listen yet: there is no verdict about it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

GAP_LOOKS = 3
"""A pause between two looks that is so many times as long as it should be was a frozen process, not a deaf one."""


class Verdict(StrEnum):
    """What to do about a worker."""

    LEAVE = "leave"
    RECONNECT = "reconnect"
    EXIT = "exit"


@dataclass(frozen=True, slots=True)
class Look:
    """What was seen at ``at``, on a monotonic clock. ``lengths`` of the queues that it serves; None: Redis was away.

    ``connected_at`` is since when its consumer has had the connection that it has; None: it has none.
    """

    at: float
    lengths: Mapping[str, int] | None
    consumed: int
    has_free_slot: bool
    connected_at: float | None
    is_draining: bool = False


class StarvationClock:
    """Measures for how long a worker has been starving; ``judge`` one look after the other."""

    def __init__(self, patience_seconds: float, look_seconds: float) -> None:
        self._patience = patience_seconds
        self._longest_gap = look_seconds * GAP_LOOKS
        self._last: Look | None = None
        self._since = 0.0
        self._waiting: frozenset[str] = frozenset()
        self._has_reconnected = False

    @property
    def waiting(self) -> frozenset[str]:
        """The queues in which messages waited at every look since it began to starve."""
        return self._waiting

    def judge(self, look: Look) -> Verdict:
        """Take a look into account; asks for a reconnection first, and for an exit when that changed nothing."""
        last, self._last = self._last, look
        still = self._still_waiting(last, look)
        if not still:
            self._begin(look)
            return Verdict.LEAVE
        self._waiting = still
        # Celery waits ever longer between its tries to connect, so that Redis may be back for long, or full for others.
        if look.connected_at is None or look.at - max(self._since, look.connected_at) < self._patience:
            return Verdict.LEAVE
        if self._has_reconnected:
            return Verdict.EXIT
        self._has_reconnected, self._since = True, look.at
        return Verdict.RECONNECT

    def _still_waiting(self, last: Look | None, look: Look) -> frozenset[str]:
        """The queues in which messages waited all the time; none where something explains that nothing is taken."""
        is_explained = (
            last is None
            or look.at - last.at > self._longest_gap
            or look.lengths is None
            or look.consumed != last.consumed
            or not look.has_free_slot
            or look.is_draining
        )
        return frozenset() if is_explained else self._waiting & _filled(look)

    def _begin(self, look: Look) -> None:
        self._since, self._has_reconnected = look.at, False
        self._waiting = _filled(look) if look.has_free_slot and not look.is_draining else frozenset()


def _filled(look: Look) -> frozenset[str]:
    return frozenset(queue for queue, length in (look.lengths or {}).items() if length)
