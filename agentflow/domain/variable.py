"""The variables of a plan: their written form, and the values that a run of the plan gets.

Owns reading ``vars`` and joining defaults with what was given at submit. Values are plain data; those of ``--var k=v``
come as text and are read as the kind that the plan's default has.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from pydantic import JsonValue

from agentflow.domain.document import Form, Value, kind_of
from agentflow.domain.fault import Fault
from agentflow.domain.plan import Plan, VarSpec
from agentflow.domain.wording import did_you_mean, listing, shorten

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}", re.ASCII)
NAME_WORDS = "start with a letter or _, then also digits, at most 64 characters"
"""What a name of a var has to be, for people."""
_SPEC = Form(known=("default", "required", "one_of"), may_be_empty=("default",))


class MisfitError(ValueError):
    """A given value does not fit its var; the message goes on after the var's name."""


def read_vars(value: Value) -> dict[str, VarSpec] | None:
    """Return the declared variables; None when ``vars`` is no mapping."""
    entries = value.entries()
    if entries is None:
        return None
    specs = {}
    for name, entry in entries.items():
        if not NAME.fullmatch(name):
            entry.fault("bad_id", f"{shorten(name)!r} is no name of a var: {NAME_WORDS}")
        specs[name] = _read_spec(entry) if isinstance(entry.value, Mapping) else VarSpec(default=entry.json())
    return specs


def _read_spec(value: Value) -> VarSpec:
    fields = value.fields(_SPEC) or {}
    default = fields["default"].json() if "default" in fields else None
    required = bool(fields["required"].boolean()) if "required" in fields else False
    one_of = None
    if "one_of" in fields and (items := fields["one_of"].items()) is not None:
        one_of = tuple(item.json() for item in items)
        _check_choices(value, one_of, has_default="default" in fields, default=default, is_required=required)
    if required and "default" in fields:
        value.fault("bad_var", f"{value.name} is required and has a default: write one of the two")
    elif not required and "default" not in fields and "one_of" not in fields:
        value.fault("bad_var", f"{value.name} says nothing: write required: true or a default")
    return VarSpec(default=default, required=required, one_of=one_of)


def _check_choices(
    value: Value, one_of: tuple[JsonValue, ...], *, has_default: bool, default: JsonValue, is_required: bool
) -> None:
    if not one_of:
        value.child("one_of").fault("bad_var", f"one_of of {value.name} is empty: no value would fit")
    elif has_default and not _is_among(default, one_of):
        value.child("default").fault("bad_var", f"the default of {value.name} is not in its one_of: {_choices(one_of)}")
    elif not has_default and not is_required:
        value.fault("bad_var", f"{value.name} needs required: true or a default beside one_of")


def resolve_vars(plan: Plan, given: Mapping[str, JsonValue]) -> tuple[dict[str, JsonValue], tuple[Fault, ...]]:
    """Return the value of every var of ``plan`` for a run that is given ``given``, and every fault of those.

    Text is read as the kind of the var's default (or of its ``one_of``); anything else must be of that kind already.
    """
    faults = [
        Fault("unknown_var", f"the plan has no var {shorten(name)!r}: {did_you_mean(name, plan.vars)}", ("vars", name))
        for name in given
        if name not in plan.vars
    ]
    values: dict[str, JsonValue] = {}
    for name, spec in plan.vars.items():
        try:
            values[name] = _resolve(spec, given[name]) if name in given else _default(name, spec)
        except MisfitError as error:
            code = "bad_var" if name in given else "missing_var"
            faults.append(Fault(code, f"the var {name} {error}", ("vars", name)))
    return values, tuple(faults)


def _default(name: str, spec: VarSpec) -> JsonValue:
    if spec.required:
        choices = f" (one of {_choices(spec.one_of)})" if spec.one_of else ""
        raise MisfitError(f"must be given{choices}: add --var {name}=VALUE, or vars={{...}} in Python")
    return spec.default


def _resolve(spec: VarSpec, given: JsonValue) -> JsonValue:
    given = _checked(given)
    if spec.one_of is not None:
        found = [choice for choice in spec.one_of if _is_same(choice, given) or _spelling(choice) == given]
        if not found:
            raise MisfitError(f"cannot be {_spelling(given)!r}: it is one of {_choices(spec.one_of)}")
        return found[0]
    return _convert(spec.default, given)


def _convert(default: JsonValue, given: JsonValue) -> JsonValue:
    """Return ``given`` as the kind that ``default`` has. Raises MisfitError."""
    if default is None or type(given) is type(default):
        return given
    if isinstance(default, float) and isinstance(given, int) and not isinstance(given, bool):
        return float(given)
    if not isinstance(given, str):
        raise MisfitError(f"must be like its default ({kind_of(default)}), not {kind_of(given)}")
    value = _parse(given)
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if type(value) is not type(default):
        raise MisfitError(f"must be like its default ({kind_of(default)}), not {_spelling(given)!r}")
    return _checked(value)


def _parse(text: str) -> JsonValue:
    try:
        value: JsonValue = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return text
    return value


def _refuse_constant(name: str) -> None:
    raise MisfitError(f"{name} is no JSON")


def _checked(value: JsonValue) -> JsonValue:
    """Return ``value`` as it can be stored: no NUL, no lone surrogate, no infinite number. Raises MisfitError."""
    holder = Value(value)
    stored = holder.json()
    if holder.faults:
        raise MisfitError(f"cannot be stored: {holder.faults[0].message}")
    return stored


def _is_same(left: JsonValue, right: JsonValue) -> bool:
    return type(left) is type(right) and left == right


def _is_among(value: JsonValue, choices: tuple[JsonValue, ...]) -> bool:
    return any(_is_same(choice, value) for choice in choices)


def _spelling(value: JsonValue) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _choices(choices: tuple[JsonValue, ...]) -> str:
    return listing([shorten(_spelling(choice), 30) for choice in choices])
