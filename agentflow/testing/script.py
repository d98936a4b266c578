"""What a test says beforehand: replies in their order, and what stops a test that says too little.

Owns the order of replies. What a reply is, is its stub's.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

Reply = TypeVar("Reply")


class RehearsalError(AssertionError):
    """The test does not say what its plan needs, or says what its plan does not have; the text says what to write."""


@dataclass(slots=True)
class _Entry(Generic[Reply]):
    reply: Reply
    left: int | None


class Script(Generic[Reply]):
    """Replies in the order in which they were said; each so many times, or, with None, for ever."""

    def __init__(self) -> None:
        self._entries: deque[_Entry[Reply]] = deque()

    def add(self, reply: Reply, times: int | None) -> None:
        """Say one more reply."""
        if times is not None and times < 1:
            raise RehearsalError(f"times is 1 or more, or None for ever, not {times}.")
        self._entries.append(_Entry(reply, times))

    def next(self) -> Reply | None:
        """Take the next reply; None when all were given."""
        if not self._entries:
            return None
        entry = self._entries[0]
        if entry.left is not None:
            entry.left -= 1
            if entry.left == 0:
                self._entries.popleft()
        return entry.reply
