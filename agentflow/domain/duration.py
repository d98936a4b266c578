"""Durations as a plan writes them: ``700ms``, ``5m``, ``1h30m``, ``2d``.

Owns reading and writing of that form, to the millisecond. Everything past the document is seconds as a float.
"""

from __future__ import annotations

import re
from fractions import Fraction

from agentflow.domain.wording import shorten

MAX_SECONDS = 3650 * 86_400
"""Ten years: longer than any plan means, short enough for every timestamp."""

_MILLISECONDS = {"d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1_000, "ms": 1}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[dhms])", re.ASCII)
PATTERN = r"^(?=[0-9])" + "".join(rf"([0-9]+(\.[0-9]+)?{unit})?" for unit in _MILLISECONDS) + "$"
"""The form as a regular expression, for a JSON Schema."""
_NUMBER = re.compile(r"[+-]?\d+(?:\.\d+)?", re.ASCII)
_FORM = "write a number with a unit (ms, s, m, h, d), such as 700ms, 60s, 5m or 1h30m"


def parse_duration(text: str) -> float:
    """Return the seconds that ``text`` means. Raises ValueError with a message for the author of the plan."""
    text = text.strip()
    if text.startswith("-"):
        raise ValueError(f"a duration cannot be negative ({shorten(text)!r})")
    if _NUMBER.fullmatch(text):
        number = shorten(text.lstrip("+"))
        units = ("s", "m") if "." in number else ("ms", "s")  # nothing is finer than a millisecond
        raise ValueError(f"{shorten(text)} has no unit: write a unit, such as {number}{units[0]} or {number}{units[1]}")
    if len(text) > 100:
        raise ValueError(f"{shorten(text)!r} is no duration: {_FORM}")
    milliseconds = _milliseconds(text)
    if milliseconds > MAX_SECONDS * 1000:
        raise ValueError(f"{shorten(text)!r} is longer than {MAX_SECONDS // 86_400} days")
    return milliseconds / 1000


def _milliseconds(text: str) -> int:
    total, position, last_unit = Fraction(0), 0, ""
    units = list(_MILLISECONDS)
    while match := _PART.match(text, position):
        number, unit = match.groups()
        if last_unit and units.index(unit) <= units.index(last_unit):
            raise ValueError(f"the units of {shorten(text)!r} must fall from d to ms, each at most once")
        total += Fraction(number) * _MILLISECONDS[unit]
        position, last_unit = match.end(), unit
    if not last_unit or position != len(text):
        raise ValueError(f"{shorten(text)!r} is no duration: {_FORM}")
    if total.denominator != 1:
        raise ValueError(f"{shorten(text)!r} is finer than a millisecond")
    return int(total)


def format_duration(seconds: float) -> str:
    """Return ``seconds`` (0 or more) in the form of a plan, rounded to the millisecond: ``1h30m``, ``0s``."""
    rest = round(seconds * 1000)
    if rest < 0:
        raise ValueError("a duration cannot be negative")
    parts = []
    for unit, size in _MILLISECONDS.items():
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts) or "0s"
