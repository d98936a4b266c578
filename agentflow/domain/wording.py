"""How messages about a plan quote and suggest: the nearest known name, lists of names, long values cut short.

Owns wording only; which fault it is and where it stands is the caller's.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence

_LEAST_BEGINNING = 3
"""Letters that a name must have to stand for one that begins with it."""


def shorten(text: str, limit: int = 60) -> str:
    """Return ``text`` on one line and cut to ``limit`` characters: a message quotes a value, it does not repeat it."""
    line = " ".join(text.split()) if "\n" in text else text
    return line if len(line) <= limit else line[: limit - 3] + "..."


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the known name that ``name`` was most likely meant to be, if one is near enough.

    Near are those with few letters changed, else those of which one is the other's beginning: env for environment.
    """
    by_folded = {candidate.casefold(): candidate for candidate in known}
    folded = name.casefold()[:100]
    found = difflib.get_close_matches(folded, by_folded, n=1, cutoff=0.6)
    if not found:
        begun = [each for each in by_folded if _is_beginning(each, folded) or _is_beginning(folded, each)]
        found = difflib.get_close_matches(folded, begun, n=1, cutoff=0.0)
    return by_folded[found[0]] if found else None


def _is_beginning(short: str, long: str) -> bool:
    return len(short) >= _LEAST_BEGINNING and long.startswith(short)


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Return the sentence that helps with a mistyped name: the nearest known one, else the known ones."""
    names = list(known)
    near = nearest(name, names)
    if near is not None:
        return f"did you mean {near!r}?"
    return f"known: {listing(names)}" if names else "there are none"


def listing(names: Sequence[str], limit: int = 12) -> str:
    """Return ``a, b, c``, cut after ``limit`` names."""
    more = len(names) - limit
    return ", ".join(names[:limit]) + (f" and {more} more" if more > 0 else "")
