"""Preconditions: what a caller saw is held against what is there, under the lock of the verb that acts on it.

Between this check and the verb nothing can come: both stand in one transaction, behind one lock, and a transaction that
only looks is no verb. Once one is committed that recorded something, the verb's own doing is no change of others, and
nothing is checked any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import Connection

from agentflow.storage.deeds import Deeds, noting

Subject = UUID | str
"""A run by its id; a schedule by its project and name, for another of that name may have come in its place."""


@dataclass(frozen=True, slots=True)
class _Expected:
    subject: Subject
    check: Callable[[Connection], None]
    deeds: Deeds


_expected: ContextVar[_Expected | None] = ContextVar("expected", default=None)


@contextmanager
def only_if(subject: Subject, check: Callable[[Connection], None]) -> Iterator[None]:
    """Let verbs of this block act on a run or schedule only where ``check``, under its lock, raises nothing."""
    with noting() as deeds:
        token = _expected.set(_Expected(subject, check, deeds))
        try:
            yield
        finally:
            _expected.reset(token)


def hold(tx: Connection, subject: Subject) -> None:
    """Check what is expected of a run or schedule that was just locked. Raises what the check does."""
    expected = _expected.get()
    if expected is not None and expected.subject == subject and not expected.deeds.is_any:
        expected.check(tx)
