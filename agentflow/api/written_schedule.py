"""The body of a schedule that has fields of no such name or type: what its other fields say is judged as well.

Owns that all faults of it are told at once. How a schedule is written is domain/schedule_document.py's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, datetime
from typing import Any, cast
from zoneinfo import ZoneInfo

from pydantic import ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError

from agentflow.domain.fault import Fault
from agentflow.domain.schedule_document import WrittenSchedule, read_moment, read_schedule

_WHEN = frozenset({"cron", "every", "at"})
_ANY_ZONE = ZoneInfo("UTC")
_NAME = "s"
"""Stands for the name where the address has it, or it is none."""


def with_what_it_says(error: ValidationError, given: object) -> ValidationError:
    """Return the error with the faults of what the fields say that can be read."""
    if not isinstance(given, Mapping):
        return error
    found = cast("list[InitErrorDetails]", error.errors(include_url=False))
    broken = {str(each["loc"][0]) for each in found if each["loc"]}
    more = [
        InitErrorDetails(type=PydanticCustomError("bad_schedule", fault.message), loc=fault.path, input=None)
        for fault in _faults(given, broken)
    ]
    return ValidationError.from_exception_data(error.title, [*found, *more])


def _faults(given: Mapping[str, Any], broken: set[str]) -> list[Fault]:
    said: dict[str, Any] = {"name": _NAME}
    for each in fields(WrittenSchedule):
        kind = int if each.name == "queue_depth" else str
        if each.name not in broken and type(given.get(each.name)) is kind:
            said[each.name] = given[each.name]
    _, faults = read_schedule(WrittenSchedule(**said), datetime.now(UTC))
    untold = broken | ({"timing", "start"} if broken & _WHEN else set())
    if read_moment(said.get("at", ""), _ANY_ZONE) is not None:
        untold.add("at")  # whether it is past, the clock of the database tells, and its own time zone
    return [fault for fault in faults if fault.path[0] not in untold]
