"""The written form of what decides the shape of a run: switch, wait and foreach.

Owns reading each into its type. That the steps of a switch exist and need it is plan_check's; the bodies of foreachs
are read by step_document.
"""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import JsonValue

from agentflow.domain.action import DecisionAction, WaitAction
from agentflow.domain.action_reading import ON_THE_STEP, ActionReading, Place, Template
from agentflow.domain.document import Form, Value
from agentflow.domain.error import TemplateError
from agentflow.domain.expression import bare_expression
from agentflow.domain.ids import StepKey
from agentflow.domain.moment import parse_moment
from agentflow.domain.plan import DEFAULT_CHILDREN, MAX_STEPS
from agentflow.domain.signal import is_signal_name
from agentflow.domain.template import has_expressions
from agentflow.domain.wording import listing, shorten

SWITCH_FORM = Form(known=("on", "cases", "default", "fail"), required=("on", "cases"), elsewhere=ON_THE_STEP)
WAIT_FORM = Form(known=("for", "until", "event", "timeout"), elsewhere=ON_THE_STEP)
_FOREACH = Form(known=("items", "max_parallel", "max_children", "merge"), required=("items",))
MERGES = ("fail_on_any", "ignore_failures", "partial")


def read_switch(value: Value, reading: ActionReading) -> None:
    """Read ``switch: {on, cases: {label: [steps]}, default, fail}``."""
    fields = value.fields(SWITCH_FORM)
    if fields is None:
        return
    on = _read_expression(fields["on"], Place.SWITCH, reading) if "on" in fields else None
    cases = _read_cases(fields["cases"]) if "cases" in fields else None
    default = fields["default"].text() if "default" in fields else None
    if default is not None and cases is not None and default not in cases:
        fields["default"].fault("unknown_label", f"default is none of the cases: write one of {listing(sorted(cases))}")
    fail = tuple(dict.fromkeys(fields["fail"].texts())) if "fail" in fields else ()
    for label in fail:
        if cases is not None and label in cases:
            fields["fail"].fault("bad_value", f"{shorten(label)!r} is one of the cases: it cannot fail the step too")
    if on is not None and cases:
        reading.action = DecisionAction(on=on, cases=cases, default=default, fail=fail)


def _read_cases(value: Value) -> dict[str, tuple[StepKey, ...]] | None:
    entries = value.entries()
    if entries is None:
        return None
    if not entries:
        value.fault("insufficient_edges", "a switch needs at least one case")
    cases = {}
    for label, entry in entries.items():
        keys = [entry.text()] if isinstance(entry.value, str) else entry.texts()
        cases[label] = tuple(dict.fromkeys(StepKey(key) for key in keys if key is not None))
    return cases


def read_wait(value: Value, reading: ActionReading) -> None:
    """Read ``wait: {for | until | event, timeout}``."""
    fields = value.fields(WAIT_FORM)
    if fields is None:
        return
    kinds = [key for key in ("for", "until", "event") if key in fields]
    if len(kinds) != 1:
        value.fault("bad_value", f"a wait has exactly one of for, until and event, this has {listing(kinds) or 'none'}")
        return
    timeout = fields["timeout"].seconds() if "timeout" in fields else None
    match kinds[0]:
        case "for":
            seconds = fields["for"].seconds(is_zero_allowed=True)
            action = None if seconds is None else WaitAction(for_seconds=seconds)
        case "until":
            text = _read_until(fields["until"], reading)
            action = None if text is None else WaitAction(until=text)
        case _:
            name = _read_event(fields["event"])
            action = None if name is None else WaitAction(event=name, timeout_seconds=timeout)
    if "timeout" in fields and kinds[0] != "event":
        fields["timeout"].fault("bad_value", "timeout is for the wait for an event: a time comes by itself")
    reading.action = action


def _read_until(value: Value, reading: ActionReading) -> str | None:
    text = reading.template(Place.UNTIL, value, value.text())
    if text is not None and not has_expressions(text):
        try:
            parse_moment(text)
        except ValueError as error:
            value.fault("bad_value", f"until {error}")
    return text


def _read_event(value: Value) -> str | None:
    """The name of a signal is plain text: it stands in rows and reasons."""
    name = value.text()
    if name is not None and not is_signal_name(name):
        value.fault(
            "bad_value",
            f"event cannot be {shorten(name)!r}: it is the plain name of a signal, of letters, digits, _, . and -, at "
            "most 100 characters",
        )
    return name


@dataclass(frozen=True, slots=True)
class ForeachReading:
    """What could be read of a foreach, without its body."""

    items: str | tuple[JsonValue, ...]
    max_parallel: int | None
    max_children: int
    merge: str


def read_foreach(value: Value, reading: ActionReading) -> ForeachReading | None:
    """Read ``foreach: LIST`` or ``foreach: {items, max_parallel, max_children, merge}``."""
    fields = {"items": value} if isinstance(value.value, str | list | tuple) else value.fields(_FOREACH)
    if fields is None or "items" not in fields:
        return None
    items: str | tuple[JsonValue, ...] | None
    if isinstance(fields["items"].value, str):
        items = _read_expression(fields["items"], Place.ITEMS, reading)
    else:
        read = fields["items"].items()
        items = None if read is None else tuple(item.json() for item in read)
    max_parallel = fields["max_parallel"].integer(1) if "max_parallel" in fields else None
    max_children = fields["max_children"].integer(1, MAX_STEPS) if "max_children" in fields else DEFAULT_CHILDREN
    merge = fields["merge"].choice(MERGES) if "merge" in fields else MERGES[0]
    if items is None or max_children is None or merge is None:
        return None
    return ForeachReading(items, max_parallel, max_children, merge)


def _read_expression(value: Value, place: Place, reading: ActionReading) -> str | None:
    text = value.text()
    if text is None:
        return None
    try:
        source = bare_expression(text)
    except TemplateError as error:
        value.fault("template_syntax", f"{value.name}: {error}")
        return None
    reading.templates.append(Template(place, source, value))
    return source
