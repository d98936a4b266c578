"""Deeds: whether anything was recorded and committed in a block, which is what tells a verb that was done from none.

Every verb that changes something appends its audit event in the transaction that changes it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from sqlalchemy import Connection

from agentflow.storage.database import after_commit


class Deeds:
    """What was done in a block."""

    is_any = False

    def add(self) -> None:
        """Note one."""
        self.is_any = True


_noting: ContextVar[tuple[Deeds, ...]] = ContextVar("noting", default=())


@contextmanager
def noting() -> Iterator[Deeds]:
    """Note what is done in this block, by this thread."""
    deeds = Deeds()
    token = _noting.set((*_noting.get(), deeds))
    try:
        yield deeds
    finally:
        _noting.reset(token)


def note(tx: Connection) -> None:
    """Note that a transaction records something; it counts once that is committed."""
    for deeds in _noting.get():
        after_commit(tx, deeds.add)
