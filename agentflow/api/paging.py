"""Pages of lists: what stands in one, and the cursor that asks for the next.

Owns the cursor's form. It names the last item of its page by its place in the order, so that what is added or taken
away meanwhile shifts nothing.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterable
from typing import Annotated, Any, TypeVar

from fastapi import Query

from agentflow.domain.error import UsageError

T = TypeVar("T")
Place = tuple[Any, ...]
Limit = Annotated[int, Query(ge=1, le=1000, description="How many at most.")]
Cursor = Annotated[str | None, Query(description="next_cursor of the page before.")]


def page(items: Iterable[T], place: Callable[[T], Place], limit: int, cursor: str | None) -> tuple[list[T], str | None]:
    """Return up to ``limit`` items after a cursor, by their places, and the cursor of the page after them."""
    after = None if cursor is None else place_of(cursor)
    try:
        found = sorted((each for each in items if after is None or place(each) > after), key=place)
    except TypeError:  # another list's places are of other types
        raise _strange() from None
    return found[:limit], cursor_of(place(found[limit - 1])) if len(found) > limit else None


def cursor_of(place: Place) -> str:
    """Write a place as a cursor."""
    return base64.urlsafe_b64encode(json.dumps(place).encode()).decode().rstrip("=")


def place_of(cursor: str) -> Place:
    """Read the place that a cursor names. UsageError when it is none."""
    try:
        read = json.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, binascii.Error, RecursionError):
        raise _strange() from None
    if not isinstance(read, list):
        raise _strange()
    return tuple(read)


def number_of(cursor: str | None) -> int:
    """Read a cursor whose place is one number; 0 without a cursor. UsageError when it is none."""
    place = (0,) if cursor is None else place_of(cursor)
    if len(place) != 1 or type(place[0]) is not int or not 0 <= place[0] < 2**63:
        raise _strange()
    return place[0]


def _strange() -> UsageError:
    return UsageError("The cursor is none of this list: use next_cursor of the page before.")
