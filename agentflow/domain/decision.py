"""How the value of a decision names one label of a closed set.

A text names itself; true, false and numbers are named as YAML writes them. Of an object the first of KEYS that is there
and not null counts, as the founding engine had it. Everything else is a routing error, and a default does not hide one
whose value names no label at all but only one that is not known.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

KEYS = ("selected_edge", "selected_edge_label", "condition", "route", "next")
"""Where an object names its label, in this order."""


class RoutingError(Exception):
    """A value names no label; ``code`` is the founding engine's name for the fault."""

    def __init__(self, code: str, problem: str) -> None:
        super().__init__(problem)
        self.code = code


def chosen_label(value: Any, labels: Collection[str], default: str | None = None, fail: Collection[str] = ()) -> str:
    """Return the label of ``labels`` that ``value`` names, or ``default`` for a name that is not among them.

    Raises RoutingError, also for a name among those that ``fail``. Its text names labels of the plan and no content.
    """
    name = _name(value)
    if name in fail:
        raise RoutingError(name, "that label fails the step")
    if name in labels:
        return name
    if default is not None:
        return default
    raise RoutingError("invalid_target_node", f"the value is none of {', '.join(sorted(labels))}")


def _name(value: Any) -> str:
    if isinstance(value, Mapping):
        value = next((value[key] for key in KEYS if value.get(key) is not None), None)
    match value:
        case bool():
            return "true" if value else "false"
        case str() if value.strip():
            return value.strip()
        case int() | float():
            return str(value)
        case _:
            raise RoutingError(
                "invalid_output_type", "the value names no label: it is empty, a list or an object without one"
            )
