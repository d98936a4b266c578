"""The form of a gate: values that whoever approves fills in, typed by the plan.

Owns what fits a field and what is missing at the end. The values become vars of the run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

from agentflow.domain.gate import FormField
from agentflow.domain.wording import did_you_mean, listing, shorten

MAX_VALUE_LENGTH = 4096
_KINDS: Mapping[str, str] = {
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
}


class FormMisfit(ValueError):
    """A value does not fit its field; the message goes on after the field's name and quotes no value."""


def fill_in(
    form: Mapping[str, FormField], given: Mapping[str, Any], before: Mapping[str, Any]
) -> tuple[dict[str, JsonValue], tuple[str, ...]]:
    """Return the values of ``given`` as the fields have them, and every problem.

    Text is read as the kind of its field. A field that another approver has set keeps its value: whoever approves
    approves that one.
    """
    values: dict[str, JsonValue] = {}
    problems = []
    for name, value in given.items():
        if name not in form:
            problems.append(f"{shorten(name)} is no field of the form: {did_you_mean(name, form)}")
            continue
        try:
            values[name] = read_value(form[name], value)
        except FormMisfit as misfit:
            problems.append(f"{name} {misfit}")
            continue
        if name in before and not _is_same(before[name], values[name]):
            problems.append(f"{name} was set by an earlier approval: approve that value, or reject")
    return values, tuple(problems)


def completed(form: Mapping[str, FormField], given: Mapping[str, Any]) -> tuple[dict[str, JsonValue], tuple[str, ...]]:
    """Return every field's value, defaults among them, and the names of required fields that have none."""
    values = {name: given.get(name, field.default) for name, field in form.items()}
    missing = tuple(name for name, field in form.items() if field.required and values[name] is None)
    return values, missing


def read_value(field: FormField, given: Any) -> JsonValue:
    """Return ``given`` as the kind of the field. Raises FormMisfit."""
    value = _as_kind(field, given)
    if isinstance(value, str):
        _check_text(value)
    if field.one_of is not None and not any(_is_same(choice, value) for choice in field.one_of):
        choices = listing([shorten(_spelling(choice), 30) for choice in field.one_of])
        raise FormMisfit(f"is none of its choices: {choices}")
    return value


def _as_kind(field: FormField, given: Any) -> JsonValue:
    value = given
    if isinstance(given, str) and field.type != "string":
        try:
            value = json.loads(given)
        except (ValueError, RecursionError):
            value = None
    match field.type, value:
        case "string", str():
            return value
        case "boolean", bool():
            return value
        case "integer", int() if not isinstance(value, bool) and value.bit_length() <= 64:
            return value
        case "number", int() | float() if not isinstance(value, bool) and _is_finite(value):
            return float(value)
        case _:
            raise FormMisfit(f"must be {_KINDS[field.type]}")


def _check_text(value: str) -> None:
    if len(value) > MAX_VALUE_LENGTH:
        raise FormMisfit(f"is longer than {MAX_VALUE_LENGTH} characters")
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise FormMisfit("holds a character that cannot be stored")


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(float(value))
    except OverflowError:
        return False


def _is_same(left: Any, right: Any) -> bool:
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    return (type(left) is type(right) and left == right) or (_is_number(left) and _is_number(right) and left == right)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float)


def _spelling(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
