"""A schedule's body is told all that is wrong with it at once, its fields' names and what they say."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from agentflow.api.bodies import NamedSchedule, Schedule
from agentflow.domain.misfit import misfit_of

BROKEN: list[tuple[dict[str, Any], list[str]]] = [
    ({"plan": "p", "crn": "@daily", "every": "1h", "start": "nope"}, ["crn", "start"]),
    ({"plan": "p", "cron": 7, "overlap": "no{w}"}, ["cron", "overlap"]),
    ({"cron": "@daily", "queue_depth": 0, "time_zone": "Mars"}, ["plan", "time_zone", "queue_depth"]),
    ({"plan": "p", "at": "2026-01-01T00:00", "time_zone": ["Asia/Tokyo"]}, ["time_zone"]),
    ({"plan": "p", "at": "soon", "crn": "@daily"}, ["crn", "at"]),
    ({"plan": "p", "crn": "x", "every": "1s", "start": "9999-12-31T23:59:59"}, ["crn"]),
    ({"plan": 5, "queue_depth": "many", "jitter": None}, ["plan", "jitter", "queue_depth", "timing"]),
]


@pytest.mark.parametrize(("given", "fields"), BROKEN)
def test_every_fault_is_told_once(given: dict[str, Any], fields: list[str]) -> None:
    with pytest.raises(ValidationError) as raised:
        Schedule.model_validate(given)

    told = misfit_of(raised.value.errors(), given, Schedule.model_fields)
    assert sorted(fault.field or "timing" for fault in told.faults) == sorted(fields)


def test_what_can_be_read_is_judged_where_the_plan_is_looked_for() -> None:
    assert Schedule.model_validate({"plan": "p", "cron": "no"}).cron == "no"
    assert NamedSchedule.model_validate({"plan": "p", "name": "s"}).name == "s"
