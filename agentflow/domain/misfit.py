"""Misfits: what of a request or of a tool's arguments does not fit, in words for whoever sent it.

Owns the wording of the checks by which both are read. What was given is not repeated, for it may be content.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from agentflow.domain.error import UsageError
from agentflow.domain.wording import did_you_mean, shorten

_TAKES = {
    "int": "takes a whole number",
    "float": "takes a number",
    "bool": "takes true or false",
    "string": "takes a text",
    "list": "takes a list",
    "dict": "takes an object",
    "model": "takes an object",
    "uuid": "takes an id",
}
_BOUNDS = {
    "greater_than_equal": ("must be at least", "ge"),
    "greater_than": ("must be more than", "gt"),
    "less_than_equal": ("must be at most", "le"),
    "less_than": ("must be less than", "lt"),
}
_NOT_OF_TYPE = ("type", "parsing", "parsing_size", "attributes_type", "from_float")
MOST_FAULTS = 100
"""How many faults are worded: whoever sends more of them is not helped by the rest, and words cost."""
_MOST_SAID = 5


@dataclass(frozen=True, slots=True)
class FieldFault:
    """What is wrong with one field; ``line`` and ``column`` where it is a place in a text."""

    field: str
    code: str
    message: str
    line: int | None = None
    column: int | None = None

    def as_json(self) -> dict[str, Any]:
        """The fault as a problem has it."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class Misfit(UsageError):
    """Fields that do not fit: the first MOST_FAULTS of them, and in words the first few."""

    code = "misfit"

    def __init__(self, faults: Sequence[FieldFault], count: int | None = None) -> None:
        self.faults = tuple(faults[:MOST_FAULTS])
        count = len(faults) if count is None else count
        said = [f"{each.field}: {each.message}" for each in self.faults[:_MOST_SAID]]
        more = [f"and {count - len(said)} more"] if count > len(said) else []
        super().__init__("; ".join(said + more), faults=count)


def fields_that_misfit(
    found: Sequence[Mapping[str, Any]], given: Any = None, known: Collection[str] = ()
) -> list[FieldFault]:
    """Return the faults of ``found``, a ValidationError's ``errors()``, one a field.

    ``given`` is what was checked: of a place only what leads into it is told, and not which of several types was tried.
    ``known`` are the names of the fields that there are. Those behind the first MOST_FAULTS are left out.
    """
    told: dict[str, list[Mapping[str, Any]]] = {}
    for each in found:
        field = _field(each, given)
        if field in told or len(told) < MOST_FAULTS:
            told.setdefault(field, []).append(each)
    names = sorted(known)
    return [_fault(field, faults, names) for field, faults in told.items()]


def misfit_of(found: Sequence[Mapping[str, Any]], given: Any = None, known: Collection[str] = ()) -> Misfit:
    """Return the misfit of ``found``, as fields_that_misfit words it."""
    told = fields_that_misfit(found, given, known)
    return Misfit(told, len(told) if len(told) < MOST_FAULTS else len(found))


def _fault(field: str, faults: list[Mapping[str, Any]], known: Sequence[str]) -> FieldFault:
    words = list(dict.fromkeys(_words(each, known) for each in faults))
    takes = [each.removeprefix("takes ") for each in words if each.startswith("takes ")]
    message = f"takes {' or '.join(takes)}" if len(takes) == len(words) else "; ".join(words)
    return FieldFault(field, str(faults[0]["type"]), message)


def _field(fault: Mapping[str, Any], given: Any) -> str:
    """Name a place by the fields that lead there, without the names of types that the checks put between them."""
    path: list[str] = []
    for number, part in enumerate(fault["loc"]):
        leads = isinstance(given, Mapping) and part in given
        if leads or (isinstance(given, list) and isinstance(part, int) and part < len(given)):
            given = given[part]
        elif fault["type"] != "missing" or number < len(fault["loc"]) - 1:
            continue
        path.append(shorten(str(part)))
    return ".".join(path)


def _words(fault: Mapping[str, Any], known: Sequence[str]) -> str:
    kind, context = str(fault["type"]), fault.get("ctx") or {}
    family, _, rest = kind.partition("_")
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        return f"there is no such field: {did_you_mean(str(fault['loc'][-1]), known)}"
    if kind in ("literal_error", "enum"):
        return f"takes {context['expected']}"
    if kind in _BOUNDS:
        words, bound = _BOUNDS[kind]
        return f"{words} {str(context[bound]).removesuffix('.0')}"
    if family in _TAKES and rest in _NOT_OF_TYPE:
        return _TAKES[family]
    return str(fault["msg"])
