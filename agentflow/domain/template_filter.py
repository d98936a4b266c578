"""The filters that templates and expressions may use, and how a value becomes text.

Owns their meaning: plain data in, plain data out, no attribute access, and no result much larger than what went in.
A filter that cannot read its value raises UnfitError, whose message never quotes the value: it may be output of a step.
"""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jinja2 import Undefined
from jinja2.filters import do_default

MAX_TEXT = 64 * 1024 * 1024
"""Characters that one expression or template may come to."""

_REQUIRED = object()


class UnfitError(ValueError):
    """A value does not fit what is asked of it; the message is safe to show."""


def as_text(value: Any) -> str:
    """Return text as it is and everything else as JSON: true, null, 0.5, ["a"]. Undefined values raise."""
    if isinstance(value, str):
        return value
    if isinstance(value, Undefined):
        return str(value)
    return to_json(value)


def to_json(value: Any, indent: int | None = None) -> str:
    """Return ``value`` as JSON with sorted keys."""
    if indent is not None and not 0 <= indent <= 16:
        raise UnfitError("tojson takes an indent of 0 to 16")
    try:
        return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=indent, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise UnfitError(f"the value cannot be written as JSON ({type(error).__name__})") from None


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError


def from_json(value: Any) -> Any:
    """Read a text as JSON; of a list each of its texts, and what is no text stays."""
    if isinstance(value, list | tuple):
        return [from_json(item) if isinstance(item, str) else item for item in value]
    if isinstance(value, Undefined):
        str(value)
    if not isinstance(value, str):
        raise UnfitError("fromjson takes a text or a list of texts")
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise UnfitError("the text is no JSON") from None


def parts(value: Any) -> list[Any]:
    """Return the parts that came to a merge, without those that were not taken, and each subtask by itself.

    A subtask that did not succeed has no output.
    """
    found: list[Any] = []
    for part in _sequence(value, "parts"):
        if isinstance(part, Mapping) and "subtasks" in part:
            rest = {key: entry for key, entry in part.items() if key != "subtasks"}
            found.extend(
                {**rest, "node_status": "failed" if output is None else "completed", "output": output}
                for output in _sequence(part["subtasks"], "parts")
            )
        elif part is not None:
            found.append(part)
    return found


def replace(value: Any, old: str, new: str) -> str:
    """Replace ``old`` by ``new`` everywhere."""
    text = as_text(value)
    if len(text) + text.count(old) * (len(new) - len(old)) > MAX_TEXT:
        raise UnfitError("replace would make a text beyond all bounds")
    return text.replace(old, new)


def join(value: Any, separator: str = "") -> str:
    """Join the texts of a list."""
    items = [as_text(item) for item in _sequence(value, "join")]
    if sum(map(len, items)) + len(separator) * len(items) > MAX_TEXT:
        raise UnfitError("join would make a text beyond all bounds")
    return separator.join(items)


def to_int(value: Any, default: Any = _REQUIRED) -> Any:
    """Read a whole number; a fraction is cut off."""
    return _number(value, int, "a whole number", default)


def to_float(value: Any, default: Any = _REQUIRED) -> Any:
    """Read a number."""
    return _number(value, float, "a number", default)


def _number(value: Any, kind: Callable[[Any], Any], meant: str, default: Any) -> Any:
    try:
        if isinstance(value, str | int | float):
            number = float(value) if kind is float or _is_fraction(value) else int(value)
            if math.isfinite(number):
                return kind(number)
    except (ValueError, OverflowError):
        pass
    if default is _REQUIRED:
        raise UnfitError(f"the value is not {meant}") from None
    return default


def _is_fraction(value: str | float) -> bool:
    return not isinstance(value, int) and (isinstance(value, float) or not value.strip().lstrip("+-").isdigit())


def round_number(value: Any, precision: int = 0) -> Any:
    """Round to ``precision`` digits (0 to 15); with none, to a whole number."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= precision <= 15:
        raise UnfitError("round takes a number and a precision of 0 to 15")
    return round(value, precision) if precision else round(value)


def first(value: Any) -> Any:
    """Return the first item of a list or the first character of a text."""
    return _end(value, "first", 0)


def last(value: Any) -> Any:
    """Return the last item of a list or the last character of a text."""
    return _end(value, "last", -1)


def _end(value: Any, name: str, index: int) -> Any:
    items = _sequence(value, name)
    if not items:
        raise UnfitError(f"{name} of nothing: the value is empty")
    return items[index]


def sort(value: Any, reverse: bool = False) -> list[Any]:
    """Sort a list of texts or of numbers."""
    try:
        return sorted(_sequence(value, "sort"), reverse=bool(reverse))
    except TypeError:
        raise UnfitError("sort takes a list of texts or a list of numbers") from None


def unique(value: Any) -> list[Any]:
    """Return the items of a list without repeats, in order."""
    found: dict[str, Any] = {}
    for item in _sequence(value, "unique"):
        found.setdefault(to_json(item), item)
    return list(found.values())


def to_list(value: Any) -> list[Any]:
    """Return the characters of a text, the keys of a mapping or the items of a list."""
    return list(value) if isinstance(value, Mapping) else list(_sequence(value, "list"))


def length(value: Any) -> int:
    """Count the characters of a text, the items of a list or the keys of a mapping."""
    return len(value) if isinstance(value, Mapping) else len(_sequence(value, "length"))


def split(value: Any, separator: str | None = None) -> list[str]:
    """Split a text at ``separator``, or at white space."""
    if separator == "":
        raise UnfitError("split takes a separator of at least one character")
    return as_text(value).split(separator)


def _sequence(value: Any, name: str) -> Sequence[Any]:
    if isinstance(value, Undefined):
        str(value)
    if not isinstance(value, str | list | tuple):
        raise UnfitError(f"{name} takes a list or a text")
    return value


FILTERS: Mapping[str, Callable[..., Any]] = {
    "default": do_default,
    "first": first,
    "float": to_float,
    "fromjson": from_json,
    "int": to_int,
    "join": join,
    "last": last,
    "length": length,
    "lines": lambda value: as_text(value).splitlines(),
    "list": to_list,
    "parts": parts,
    "lower": lambda value: as_text(value).lower(),
    "quote": lambda value: shlex.quote(as_text(value)),
    "replace": replace,
    "round": round_number,
    "sort": sort,
    "split": split,
    "string": as_text,
    "tojson": to_json,
    "trim": lambda value: as_text(value).strip(),
    "unique": unique,
    "upper": lambda value: as_text(value).upper(),
}
"""Every filter by name. ``quote`` makes a text one word of a shell; ``string`` gives the text as_text gives."""
