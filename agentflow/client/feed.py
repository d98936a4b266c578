"""A run's events as they come, each once, none missed.

Owns looking back: an event's id is given before its transaction commits, so a lower id can appear after a higher one
was read. The feed reads again what is younger than a transaction may be old, and everything at the end.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import datetime, timedelta

from agentflow.storage.view_shapes import EventView

LOOK_BACK = timedelta(seconds=60)
"""Longer than any transaction of ours may take (the statement timeout)."""


class EventFeed:
    """Hands out the events of one run; ``read`` reads those with an id above the one it is given."""

    def __init__(self, read: Callable[[int], list[EventView]]) -> None:
        self._read = read
        self._seen: set[int] = set()
        self._young: deque[tuple[datetime, int]] = deque()
        self._floor = 0

    def take(self, *, is_last: bool = False) -> list[EventView]:
        """Return what is new, in the order of writing; with ``is_last`` after one more look at everything."""
        fresh = [event for event in self._read(0 if is_last else self._floor) if event.id not in self._seen]
        for event in fresh:
            self._seen.add(event.id)
            self._young.append((event.at, event.id))
        self._raise_floor()
        return fresh

    def _raise_floor(self) -> None:
        if not self._young:
            return
        newest = max(at for at, _ in self._young)
        while self._young and newest - self._young[0][0] > LOOK_BACK:
            self._floor = max(self._floor, self._young.popleft()[1])
