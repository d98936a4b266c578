"""Conflicts: a verb that Postgres broke off for the sake of another is tried again; then the caller is told.

What was broken off was rolled back, so that trying again is safe.
"""

from __future__ import annotations

import functools
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import ParamSpec, TypeVar

from sqlalchemy.exc import IntegrityError

from agentflow.domain.error import Conflict, UsageError
from agentflow.storage.database import ConflictingWrite, UnwritableValue
from agentflow.storage.deeds import noting

P = ParamSpec("P")
R = TypeVar("R")

TRIES = 4
FIRST_WAIT_SECONDS = 0.1
_IN_PART = "Postgres broke off the rest of the call after a part of it was done: look what stands before you ask again."


def told(error: Exception) -> Exception:
    """Return what Postgres did not take as a Conflict, or as the caller's mistake, and any other error as it is.

    Postgres' own words are left out: they may hold a value.
    """
    if isinstance(error, ConflictingWrite):
        return Conflict(
            "Postgres broke the call off for the sake of another, or because it took too long. What it had begun was "
            "not done; try it again. If that lasts, look for what holds locks in Postgres (pg_stat_activity)."
        )
    if isinstance(error, UnwritableValue) and isinstance(error.__cause__, IntegrityError):
        return Conflict("Somebody else wrote what this call would have: it was not done. Look again, and decide anew.")
    if isinstance(error, UnwritableValue):
        return UsageError(
            "Postgres cannot store a value of this call; it was not done, and trying again does not help. "
            "Look for texts with NUL or other characters that are none, and for numbers that are too large."
        )
    return error


@contextmanager
def telling_conflicts() -> Iterator[None]:
    """Tell what Postgres did not take in the block in our words. Raises Conflict and UsageError."""
    with noting() as deeds:
        try:
            yield
        except (ConflictingWrite, UnwritableValue) as error:
            raise (Conflict(_IN_PART) if deeds.is_any else told(error)) from error


def trying_again(verb: Callable[P, R]) -> Callable[P, R]:
    """Let a verb of the client be tried a few times where it meets a conflict. Raises Conflict after the last."""

    @functools.wraps(verb)
    def tried(*arguments: P.args, **options: P.kwargs) -> R:
        with telling_conflicts():
            for number in range(TRIES - 1):
                with suppress(Conflict, ConflictingWrite):
                    return verb(*arguments, **options)
                # At random, so that two that broke each other off do not meet again.
                seconds = FIRST_WAIT_SECONDS * 2**number * random.uniform(0.5, 1.5)  # noqa: S311 - no secret
                threading.Event().wait(seconds)  # nothing signals that the other is done
            return verb(*arguments, **options)

    return tried
