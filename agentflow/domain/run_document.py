"""The written form of a child run: ``run: {plan, vars, budget}``.

Owns reading it, what names a file and what a stored plan, and whether the vars that are given fit the plan that is run.
Reading that plan is the engine's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import PurePosixPath

from pydantic import JsonValue

from agentflow.domain.action import RunAction
from agentflow.domain.action_reading import ON_THE_STEP, ActionReading, Place
from agentflow.domain.budget_document import read_budget
from agentflow.domain.document import Form, Path, Value
from agentflow.domain.fault import Fault
from agentflow.domain.plan import NAME_PATTERN, Plan
from agentflow.domain.template import has_expressions
from agentflow.domain.variable import resolve_vars
from agentflow.domain.wording import shorten

RUN_FORM = Form(
    known=("plan", "vars", "budget"),
    required=("plan",),
    elsewhere={name: place for name, place in ON_THE_STEP.items() if name != "budget"},
)
PLAN_SUFFIXES = (".yaml", ".yml", ".json")
_VERSION = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)


def read_run(value: Value, reading: ActionReading) -> None:
    """Read ``run: {plan: NAME | NAME@VERSION | ./file.yaml, vars: {...}, budget: {...}}``."""
    fields = value.fields(RUN_FORM)
    if fields is None:
        return
    plan = _read_plan(fields["plan"]) if "plan" in fields else None
    given = _read_vars(fields["vars"], reading) if "vars" in fields else {}
    budget = read_budget(fields["budget"]) if "budget" in fields else None
    if plan is not None:
        reading.action = RunAction(plan=plan, vars=given, budget=budget)
        reading.runs.append((reading.action, value))


def _read_plan(value: Value) -> str | None:
    text = value.text()
    if text is None:
        return None
    if has_expressions(text):
        value.fault("bad_value", "the plan of a child run is written out: a template cannot choose it (a switch can)")
    elif is_file(text):
        parts = PurePosixPath(text)
        if parts.is_absolute() or ".." in parts.parts or "\\" in text:
            value.fault("bad_path", f"{shorten(text)!r} leads out of the plan's folder: copy the plan beside this one")
    elif stored_name(text) is None:
        value.fault(
            "bad_value",
            f"plan cannot be {shorten(text)!r}: write NAME or NAME@VERSION of a stored plan, or ./FILE.yaml",
        )
    return text


def is_file(reference: str) -> bool:
    """Whether what a child run names is a file beside its plan; anything else names a stored plan."""
    return "/" in reference or reference.lower().endswith(PLAN_SUFFIXES)


def stored_name(reference: str) -> tuple[str, int | None] | None:
    """Take ``NAME`` or ``NAME@VERSION`` apart; None for what is neither."""
    name, at, version = reference.partition("@")
    if not re.match(NAME_PATTERN, name) or (at and not _VERSION.fullmatch(version)):
        return None
    return name, int(version) if at else None


def _read_vars(value: Value, reading: ActionReading) -> dict[str, JsonValue]:
    given: dict[str, JsonValue] = {}
    for name, entry in (value.entries() or {}).items():
        before = len(entry.faults)
        given[name] = entry.json()
        if len(entry.faults) == before:
            _note_templates(entry, reading)
    return given


def _note_templates(value: Value, reading: ActionReading) -> None:
    match value.value:
        case str():
            reading.template(Place.VARS, value, value.value)
        case Mapping():
            for entry in (value.entries() or {}).values():
                _note_templates(entry, reading)
        case list() | tuple():
            for item in value.items() or ():
                _note_templates(item, reading)
        case _:
            pass


def templates_in(value: JsonValue) -> Iterator[str]:
    """The texts in a var's value that are templates."""
    match value:
        case str():
            if has_expressions(value):
                yield value
        case dict():
            for entry in value.values():
                yield from templates_in(entry)
        case list():
            for item in value:
                yield from templates_in(item)
        case _:
            return


def check_given(plan: Plan, given: Mapping[str, JsonValue], path: Path, step: str | None) -> tuple[Fault, ...]:
    """Return a fault for each var that ``plan`` lacks, misses or cannot take, as far as it shows before the run.

    ``path`` leads to the ``run`` of ``step``. The value of a template shows only then.
    """
    later = {name for name, value in given.items() if any(True for _ in templates_in(value))}
    _, faults = resolve_vars(plan, {name: value for name, value in given.items() if name not in later})
    unknown = [name for name in later if name not in plan.vars]
    if unknown:
        faults = (*faults, *resolve_vars(plan, dict.fromkeys(unknown, ""))[1])
    found: dict[tuple[str, str], Fault] = {}
    for fault in faults:
        name = str(fault.path[-1])
        if fault.code == "missing_var" and name in later:
            continue
        is_given = name in given
        place = (*path, "vars", name) if is_given else path
        message = fault.message if is_given else f"the plan {plan.name} needs the var {name}: add it to vars"
        found.setdefault((fault.code, name), replace(fault, message=message, path=place, step=step))
    return tuple(found.values())
