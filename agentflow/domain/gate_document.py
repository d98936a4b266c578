"""The written form of a gate: ``approval: {message, approvers, count, form, expires, ...}``.

Owns reading the fields of one gate. That its steps exist and come before it, and that no form clashes with a var, is
gate_check's.
"""

from __future__ import annotations

import re

from pydantic import JsonValue

from agentflow.domain.action import ApprovalAction
from agentflow.domain.action_reading import ON_THE_STEP, ActionReading, Place
from agentflow.domain.document import Form, Value
from agentflow.domain.gate import MAX_REDO_ROUNDS, CheckMode, FormField, GateKind, GateTerms, Redo
from agentflow.domain.gate_form import FormMisfit, read_value
from agentflow.domain.ids import StepKey
from agentflow.domain.variable import NAME, NAME_WORDS
from agentflow.domain.wording import listing, shorten

APPROVAL_FORM = Form(
    known=(
        "message", "kind", "approvers", "count", "allow_self", "form", "expires", "on_expiry", "escalate_to",
        "artifacts", "checks", "automatic", "on_reject",
    ),
    elsewhere=ON_THE_STEP,
)  # fmt: skip
_FIELD = Form(known=("type", "required", "default", "one_of"))
_REDO = Form(known=("redo", "max_rounds"), required=("redo",))
FIELD_TYPES = ("string", "integer", "number", "boolean")
ON_EXPIRY = ("deny", "approve", "escalate")
MAX_APPROVERS, MAX_REDOS = 100, 100
APPROVER = re.compile(r"@?[^\s@,][^\s,]{0,199}")
"""A person's name as an actor, or a group's with an @ before it."""


def read_approval(value: Value, reading: ActionReading) -> None:
    """Read ``approval: {...}``."""
    fields = value.fields(APPROVAL_FORM)
    if fields is None:
        return
    before = len(value.faults)
    kind = fields["kind"].choice([kind.value for kind in GateKind]) if "kind" in fields else GateKind.APPROVAL.value
    on_expiry = fields["on_expiry"].choice(ON_EXPIRY) if "on_expiry" in fields else ON_EXPIRY[0]
    terms = {
        "kind": kind,
        "message": _read_message(fields["message"], reading) if "message" in fields else "",
        "approvers": _read_approvers(fields["approvers"]) if "approvers" in fields else (),
        "count": fields["count"].integer(1, MAX_APPROVERS) if "count" in fields else 1,
        "allows_self": fields["allow_self"].boolean() if "allow_self" in fields else False,
        "form": _read_form(fields["form"]) if "form" in fields else {},
        "expires_seconds": fields["expires"].seconds() if "expires" in fields else None,
        "on_expiry": on_expiry,
        "escalate_to": _read_approvers(fields["escalate_to"]) if "escalate_to" in fields else (),
        "artifacts": _read_artifacts(fields["artifacts"]) if "artifacts" in fields else {},
        "checks": _read_checks(fields["checks"]) if "checks" in fields else {},
        "is_automatic": fields["automatic"].boolean() if "automatic" in fields else False,
        "on_reject": _read_on_reject(fields["on_reject"]) if "on_reject" in fields else None,
    }
    if len(value.faults) == before:
        read = GateTerms.model_validate(terms)
        _check_people(fields, value, read)
        _check_expiry(fields, value, read)
        _check_findings(fields, value, read)
        reading.action = ApprovalAction(gate=read)


def _read_message(value: Value, reading: ActionReading) -> str | None:
    return reading.template(Place.MESSAGE, value, value.text(is_empty_allowed=True))


def _read_approvers(value: Value) -> tuple[str, ...]:
    names: list[str] = []
    for item in value.items() or ():
        name = item.text()
        if name is None:
            continue
        if not APPROVER.fullmatch(name) or not name.isprintable():
            item.fault(
                "bad_value", f"{shorten(name)!r} is nobody: write the name of an actor, or @ and that of a group"
            )
        elif name in names:
            item.fault("bad_value", f"{value.name} names {shorten(name)} twice")
        names.append(name)
    if value.value == []:
        value.fault("bad_value", f"{value.name} is empty: leave it out where anyone may decide")
    return tuple(names)


def _read_form(value: Value) -> dict[str, FormField]:
    form = {}
    for name, entry in (value.entries() or {}).items():
        if not NAME.fullmatch(name):
            entry.fault("bad_id", f"{shorten(name)!r} is no name of a var: {NAME_WORDS}")
        form[name] = _read_field(entry)
    return form


def _read_field(value: Value) -> FormField:
    fields = value.fields(_FIELD) or {}
    kind = fields["type"].choice(FIELD_TYPES) if "type" in fields else FIELD_TYPES[0]
    one_of = tuple(item.json() for item in fields["one_of"].items() or ()) if "one_of" in fields else None
    if one_of == () and isinstance(fields["one_of"].value, list | tuple):
        fields["one_of"].fault("bad_value", f"one_of of {value.name} is empty: no value would fit")
    required = fields["required"].boolean() if "required" in fields else "default" not in fields
    default = fields["default"].json() if "default" in fields else None
    plain = FormField.model_validate({"type": kind or FIELD_TYPES[0], "required": bool(required)})
    choices = _typed(fields.get("one_of"), plain, one_of)
    complete = plain.model_copy(update={"one_of": choices})
    if "default" in fields:
        default = (_typed(fields["default"], complete, (default,)) or (None,))[0]
    return complete.model_copy(update={"default": default})


def _typed(
    value: Value | None, form_field: FormField, values: tuple[JsonValue, ...] | None
) -> tuple[JsonValue, ...] | None:
    """The values as the field has them; a fault for one that is of another kind, or none of its choices."""
    if value is None or values is None:
        return None
    typed: list[JsonValue] = []
    for each in values:
        try:
            typed.append(read_value(form_field, each))
        except FormMisfit as misfit:
            value.fault("bad_value", f"{value.name}: {shorten(str(each), 30)} {misfit}")
    return tuple(typed)


def _read_artifacts(value: Value) -> dict[StepKey, tuple[str, ...]]:
    read = {}
    for step, entry in (value.entries() or {}).items():
        patterns = [entry.text()] if isinstance(entry.value, str) else entry.texts()
        if entry.value in ([], ()):
            entry.fault("bad_value", f"artifacts names no file of {shorten(step)}: write globs, such as ['*.csv']")
        read[StepKey(step)] = tuple(dict.fromkeys(each for each in patterns if each is not None))
    return read


def _read_checks(value: Value) -> dict[StepKey, CheckMode]:
    modes = [mode.value for mode in CheckMode]
    read = {}
    for step, entry in (value.entries() or {}).items():
        mode = entry.choice(modes)
        if mode is not None:
            read[StepKey(step)] = CheckMode(mode)
    return read


def _read_on_reject(value: Value) -> Redo | None:
    if value.value == "fail":
        return None
    if isinstance(value.value, str):
        value.fault("bad_value", f"on_reject cannot be {shorten(value.value)!r}: write fail, or {{redo: STEP}}")
        return None
    fields = value.fields(_REDO) or {}
    step = fields["redo"].text() if "redo" in fields else None
    rounds = fields["max_rounds"].integer(1, MAX_REDOS) if "max_rounds" in fields else MAX_REDO_ROUNDS
    return None if step is None or rounds is None else Redo(step=StepKey(step), max_rounds=rounds)


def _check_people(fields: dict[str, Value], value: Value, terms: GateTerms) -> None:
    is_listed = bool(terms.approvers) and not any(name.startswith("@") for name in terms.approvers)
    if is_listed and terms.count > len(terms.approvers):
        place = fields.get("count", value)
        place.fault("bad_value", f"count is {terms.count}, and only {len(terms.approvers)} may approve")
    asked = [name for name in ("approvers", "count", "allow_self", "form", "expires", "on_expiry") if name in fields]
    if terms.is_automatic and asked:
        fields[asked[0]].fault("bad_value", f"an automatic gate asks nobody: remove {listing(asked)}, or automatic")


def _check_expiry(fields: dict[str, Value], value: Value, terms: GateTerms) -> None:
    if "on_expiry" in fields and terms.expires_seconds is None:
        fields["on_expiry"].fault("bad_value", "on_expiry says what follows when the time is over: write expires too")
    if terms.on_expiry == "escalate" and not terms.escalate_to:
        fields["on_expiry"].fault("bad_value", "on_expiry: escalate needs escalate_to: who decides then")
    if terms.escalate_to and terms.on_expiry != "escalate":
        fields["escalate_to"].fault("bad_value", "escalate_to goes with on_expiry: escalate")
    unfilled = [name for name, each in terms.form.items() if each.required and each.default is None]
    if terms.on_expiry == "approve" and unfilled:
        value.fault("bad_value", f"on_expiry: approve would leave {listing(unfilled)} without a value: give defaults")


def _check_findings(fields: dict[str, Value], value: Value, terms: GateTerms) -> None:
    if terms.kind is GateKind.ARTIFACTS and not terms.artifacts:
        value.fault("missing_field", "a gate of kind artifacts says which: write artifacts: {STEP: [globs]}")
    if terms.kind is GateKind.QUALITY and not terms.checks:
        value.fault("missing_field", "a gate of kind quality names its checks: write checks: {STEP: block|warn|skip}")
    if terms.is_automatic and not (terms.artifacts or terms.checks):
        fields["automatic"].fault("bad_value", "an automatic gate decides by artifacts or checks: write one of them")
