"""A plan document while it is read: one value, where it stands, and the faults found so far.

Owns the reading of single values (text, number, duration, list, mapping) with messages for the author. What fields a
plan has is plan_document's. A value that does not fit gives a fault and None, and reading goes on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import JsonValue

from agentflow.domain.duration import parse_duration
from agentflow.domain.fault import Fault
from agentflow.domain.wording import did_you_mean, listing, nearest, shorten

Path = tuple[str | int, ...]
NOT_AVAILABLE = "not_available"


@dataclass(frozen=True, slots=True)
class Value:
    """One value of the document; ``written`` gives a scalar's own spelling, such as ``1.10``, where that is known."""

    value: Any
    path: Path = ()
    faults: list[Fault] = field(default_factory=list)
    step: str | None = None
    written: Callable[[Path], str | None] = lambda _path: None

    @property
    def name(self) -> str:
        """What the value is called in a message: the field, or the field of the list it stands in."""
        names = [part for part in self.path if isinstance(part, str)]
        last = names[-1] if names else "the plan"
        return f"{last}[{self.path[-1]}]" if self.path and isinstance(self.path[-1], int) else last

    def fault(self, code: str, message: str) -> None:
        """Record a fault that stands here."""
        self.faults.append(Fault(code, message, self.path, self.step))

    def child(self, key: str | int) -> Value:
        """Return the value at ``key`` of this mapping or list."""
        return Value(self.value[key], (*self.path, key), self.faults, self.step, self.written)

    def of_step(self, step: str | None) -> Value:
        """Return the same value with the step id that its faults shall carry."""
        return replace(self, step=step)

    def wrong_type(self, wanted: str) -> None:
        """Record that the value is not of the kind that stands here."""
        self.fault("wrong_type", f"{self.name} must be {wanted}, not {kind_of(self.value)}{_hint(self.value, wanted)}")

    def text(self, *, is_empty_allowed: bool = False) -> str | None:
        """Read text."""
        if not isinstance(self.value, str):
            self.wrong_type("text")
            return None
        if not self.value and not is_empty_allowed:
            self.fault("bad_value", f"{self.name} is empty")
            return None
        return self.value if self._is_sound(self.value) else None

    def argument(self) -> str | None:
        """Read text for a command or its environment: a number stands for its own spelling."""
        if isinstance(self.value, int | float) and not isinstance(self.value, bool):
            return self.written(self.path) or _spelled(self.value)
        return self.text(is_empty_allowed=True)

    def _is_sound(self, text: str) -> bool:
        if "\0" in text:
            self.fault("bad_value", f"{self.name} holds a NUL character")
            return False
        try:
            text.encode()
        except UnicodeEncodeError:
            self.fault("bad_value", f"{self.name} holds half a surrogate pair, which is no character")
            return False
        return True

    def boolean(self) -> bool | None:
        """Read true or false."""
        if isinstance(self.value, bool):
            return self.value
        self.wrong_type("true or false")
        return None

    def integer(self, low: int | None = None, high: int | None = None, code: str = "bad_value") -> int | None:
        """Read a whole number between ``low`` and ``high``; ``code`` names the fault of one beyond them."""
        if isinstance(self.value, bool) or not isinstance(self.value, int) or _is_huge(self.value):
            self.wrong_type("a whole number")
            return None
        return self.value if self._is_within(self.value, low, high, code) else None

    def number(self, low: float | None = None, high: float | None = None, code: str = "bad_value") -> float | None:
        """Read a number between ``low`` and ``high``."""
        if isinstance(self.value, bool) or not isinstance(self.value, int | float) or not _is_finite(self.value):
            self.wrong_type("a number")
            return None
        return float(self.value) if self._is_within(self.value, low, high, code) else None

    def _is_within(self, value: float, low: float | None, high: float | None, code: str) -> bool:
        if (low is None or value >= low) and (high is None or value <= high):
            return True
        if high is None:
            bounds = f"at least {low}"
        else:
            bounds = f"from {low} to {high}" if low is not None else f"at most {high}"
        self.fault(code, f"{self.name} must be {bounds}, not {shorten(str(value))}")
        return False

    def choice(self, options: Sequence[str]) -> str | None:
        """Read one of ``options``."""
        if not isinstance(self.value, str):
            self.wrong_type(f"one of {listing(options)}")
            return None
        if self.value in options:
            return self.value
        near = nearest(self.value, options)
        hint = f": did you mean {near!r}?" if near else f": write one of {listing(options)}"
        self.fault("bad_value", f"{self.name} cannot be {shorten(self.value)!r}{hint}")
        return None

    def seconds(self, *, is_zero_allowed: bool = False) -> float | None:
        """Read a duration with its unit; the result is in seconds."""
        if isinstance(self.value, bool) or not isinstance(self.value, str | int | float):
            self.wrong_type("a duration such as 60s")
            return None
        text = self.value if isinstance(self.value, str) else self.written(self.path) or _spelled(self.value)
        try:
            seconds = parse_duration(text)
        except ValueError as error:
            self.fault("bad_duration", f"{self.name}: {error}")
            return None
        if seconds == 0 and not is_zero_allowed:
            self.fault("bad_duration", f"{self.name} must be longer than nothing")
            return None
        return seconds

    def items(self) -> list[Value] | None:
        """Read a list."""
        if not isinstance(self.value, list | tuple):
            self.wrong_type("a list")
            return None
        return [self.child(index) for index in range(len(self.value))]

    def json(self, depth: int = 32) -> JsonValue:
        """Read any plain data; a number becomes what Postgres makes of it, so that the fingerprint stays."""
        match self.value:
            case None | bool():
                return self.value
            case int() if not _is_huge(self.value):
                return self.value
            case str():
                return self.text(is_empty_allowed=True)
            case float() if math.isfinite(self.value):
                return _settled(self.value)
            case list() | tuple() if depth:
                return [item.json(depth - 1) for item in self.items() or ()]
            case Mapping() if depth:
                return {key: entry.json(depth - 1) for key, entry in (self.entries() or {}).items()}
            case list() | tuple() | Mapping():
                self.fault("bad_value", f"{self.name} nests too deep")
            case _:
                self.wrong_type("plain data (text, numbers, true, false, lists, mappings)")
        return None

    def texts(self) -> list[str]:
        """Read a list of texts; those that are none are left out."""
        return [text for item in self.items() or () if (text := item.text()) is not None]

    def entries(self) -> dict[str, Value] | None:
        """Read a mapping with keys of the author's choice."""
        if not isinstance(self.value, Mapping):
            self.wrong_type("a mapping")
            return None
        for key in self.value:
            if not isinstance(key, str):
                self.fault("wrong_type", f"the keys of {self.name} must be text, not {kind_of(key)}")
        return {key: self.child(key) for key in self.value if isinstance(key, str) and self._is_sound(key)}

    def fields(self, form: Form) -> dict[str, Value] | None:
        """Read a mapping of the given form: the known fields that have a value."""
        entries = self.entries()
        if entries is None:
            return None
        for key, entry in entries.items():
            form.judge(key, entry)
        for key in form.required:
            if key not in entries:
                self.fault("missing_field", f"{self.name} has no {key}: write one")
        return {key: entry for key, entry in entries.items() if form.takes(key, entry)}


@dataclass(frozen=True, slots=True)
class Form:
    """The fields that a mapping of the document may have."""

    known: Collection[str]
    required: Collection[str] = ()
    later: Collection[str] = ()
    """Fields that the format names and this version does not have: never ignored."""
    may_be_empty: Collection[str] = ()
    elsewhere: Mapping[str, str] = field(default_factory=dict)
    """Fields that stand in another place, with the words for that place."""

    def takes(self, key: str, entry: Value) -> bool:
        """Whether ``key`` is a field to be read."""
        return key in self.known and (entry.value is not None or key in self.may_be_empty)

    def judge(self, key: str, entry: Value) -> None:
        """Record what is wrong with the presence of ``key``."""
        if key in self.later:
            entry.fault(NOT_AVAILABLE, f"{key} is not available in this version: remove it")
        elif key in self.elsewhere and key not in self.known:
            entry.fault("unknown_field", f"{key} does not stand here: it belongs to {self.elsewhere[key]}")
        elif key not in self.known:
            near = did_you_mean(key, sorted({*self.known, *self.later}))
            entry.fault("unknown_field", f"unknown field {shorten(key)!r}: {near}")
        elif not self.takes(key, entry):
            entry.fault("wrong_type", f"{key} has no value: write one, or leave the field out")


def kind_of(value: Any) -> str:
    """Return what a value is called in a message."""
    match value:
        case None:
            return "nothing"
        case bool():
            return "true" if value else "false"
        case str():
            return f"the text {shorten(value, 30)!r}" if value else "an empty text"
        case int() | float():
            return f"the number {shorten(_spelled(value), 30)}"
        case list() | tuple():
            return "a list"
        case Mapping():
            return "a mapping"
        case _:
            return f"a {type(value).__name__}"


_YAML_1_1_BOOLEANS = ("yes", "no", "on", "off", "y", "n")


def _hint(value: Any, wanted: str) -> str:
    match value:
        case bool() | int() | float() if wanted == "text":
            return ": put it in quotes"
        case str() if wanted == "true or false" and value.lower() in _YAML_1_1_BOOLEANS:
            return f": {value} is text here, write true or false"
        case str() if wanted.endswith("number") and value[:1] == "0" and value.isdigit():
            return ": numbers are written without leading zeros"
        case str() if wanted == "a list":
            return f": write [{shorten(value, 30)}]"
        case _:
            return ""


def _is_huge(value: float) -> bool:
    """Whether a number is too large for any use, and for Python to write it in digits."""
    return isinstance(value, int) and value.bit_length() > 1024


def _spelled(value: float) -> str:
    return "beyond all bounds" if _is_huge(value) else str(value)


def _settled(value: float) -> float | int:
    """Return the number that comes back from a jsonb column: no negative zero, no exponent on a whole number."""
    if value == 0:
        return 0.0
    return int(value) if abs(value) >= 1e16 else value


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:
        return False
