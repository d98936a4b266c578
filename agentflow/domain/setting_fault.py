"""What is wrong with a setting, in words for whoever wrote it.

Owns the wording of the checks that settings are read with. Where a setting was written is settings' own to
say; a value is quoted only where it cannot be a secret.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from agentflow.domain.wording import did_you_mean, shorten

_TAKES = {
    "int": "takes a whole number",
    "float": "takes a number",
    "decimal": "takes a number",
    "bool": "takes true or false",
    "string": "takes text",
    "path": "takes a path",
    "tuple": "takes a list",
    "list": "takes a list",
    "dict": "takes a table",
    "model": "takes a table",
}
_BOUNDS = {
    "greater_than_equal": ("must be at least", "ge"),
    "greater_than": ("must be more than", "gt"),
    "less_than_equal": ("must be at most", "le"),
    "less_than": ("must be less than", "lt"),
}
_QUOTED = ("int", "float", "decimal", "bool")


def words_of(fault: Mapping[str, Any], known: Collection[str] = ()) -> str:
    """Return what is wrong and what to write instead; ``fault`` is an entry of a ValidationError's ``errors()``.

    ``known`` are the names among which one that is not known was meant to be.
    """
    kind, context = str(fault["type"]), fault.get("ctx") or {}
    if kind == "value_error":
        return str(context["error"])
    if kind == "extra_forbidden":
        return f"is not known: {did_you_mean(str(fault['loc'][-1]), sorted(known))}"
    if kind in ("literal_error", "enum"):
        return f"takes one of {context['expected']}"
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        return f"{words} {str(context[bound]).removesuffix('.0')}"
    family = kind.partition("_")[0]
    if family not in _TAKES:
        return "cannot be used"
    given = fault.get("input")
    is_plain = family in _QUOTED and isinstance(given, str | int | float)
    return f"{_TAKES[family]}, not {shorten(str(given))!r}" if is_plain else _TAKES[family]
