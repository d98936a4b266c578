"""The values of a run's vars: defaults, required ones, choices, and text read as the kind of the default."""

from __future__ import annotations

from typing import Any

import pytest

from agentflow.domain.plan import Plan
from agentflow.domain.plan_document import read_plan
from agentflow.domain.variable import resolve_vars


def plan_with(**variables: Any) -> Plan:
    document = {"agentflow": 1, "name": "p", "vars": variables, "steps": [{"id": "a", "noop": {}}]}
    reading = read_plan(document)
    assert reading.plan is not None, reading.faults
    return reading.plan


def test_defaults_hold_where_nothing_is_given() -> None:
    plan = plan_with(text="a", number=1, nothing=None, listed=[1], chosen={"default": "b", "one_of": ["a", "b"]})
    assert resolve_vars(plan, {}) == ({"text": "a", "number": 1, "nothing": None, "listed": [1], "chosen": "b"}, ())


@pytest.mark.parametrize(
    ("default", "given", "value"),
    [
        ("a", "5", "5"),
        ("a", "", ""),
        (1, "5", 5),
        (1, "-5", -5),
        (1, 7, 7),
        (0.5, "5", 5.0),
        (0.5, "1e3", 1000.0),
        (0.5, 7, 7.0),
        (True, "false", False),
        (False, True, True),
        ([1], '["a", 2]', ["a", 2]),
        ({"default": {"a": 1}}, '{"b": 2}', {"b": 2}),
        (None, "5", "5"),
        (None, [1], [1]),
        ({"required": True}, "5", "5"),
        ({"required": True}, 5, 5),
        ({"required": True, "one_of": [1, 2]}, "2", 2),
        ({"required": True, "one_of": ["1", 1]}, 1, 1),
        ({"required": True, "one_of": ["1", 1]}, "1", "1"),
        ({"default": True, "one_of": [True, "auto"]}, "true", True),
    ],
)
def test_text_becomes_the_kind_of_the_default(default: Any, given: Any, value: Any) -> None:
    values, faults = resolve_vars(plan_with(x=default), {"x": given})
    assert faults == ()
    assert values == {"x": value}
    assert type(values["x"]) is type(value)


@pytest.mark.parametrize(
    ("default", "given", "words"),
    [
        (1, "five", "must be like its default (the number 1), not 'five'"),
        (1, "1.5", "must be like its default"),
        (1, "true", "must be like its default"),
        (1, True, "not true"),
        (1, None, "not nothing"),
        (0.5, "NaN", "must be like its default"),
        (0.5, "1e999", "cannot be stored"),
        (True, "yes", "must be like its default (true)"),
        ("a", 5, "must be like its default (the text 'a'), not the number 5"),
        ([1], "1,2", "must be like its default (a list)"),
        ("a", "a\0b", "cannot be stored"),
        ([1], [{"a\0": 1}], "cannot be stored"),
        ([1], [{"\ud800": 1}], "cannot be stored"),
        ({"required": True, "one_of": ["eu", "us"]}, "uk", "one of eu, us"),
        ({"required": True, "one_of": [1, 2]}, True, "one of 1, 2"),
    ],
)
def test_what_does_not_fit_is_a_fault_that_names_the_var(default: Any, given: Any, words: str) -> None:
    _, faults = resolve_vars(plan_with(x=default), {"x": given})
    (fault,) = faults
    assert (fault.code, fault.path) == ("bad_var", ("vars", "x"))
    assert fault.message.startswith("the var x ")
    assert words in fault.message


def test_a_number_beyond_all_bounds_is_a_fault() -> None:
    for default in (1, "a", {"required": True, "one_of": [1]}):
        _, faults = resolve_vars(plan_with(x=default), {"x": 10**5000})
        assert ["cannot be stored" in fault.message for fault in faults] == [True]


def test_missing_and_unknown_vars_are_reported_together() -> None:
    plan = plan_with(region={"required": True, "one_of": ["eu", "us"]}, owner={"required": True}, log="a")
    values, faults = resolve_vars(plan, {"regoin": "eu", "log": "b"})
    assert values == {"log": "b"}
    assert [(fault.code, fault.path[1]) for fault in faults] == [
        ("unknown_var", "regoin"),
        ("missing_var", "region"),
        ("missing_var", "owner"),
    ]
    assert "did you mean 'region'?" in faults[0].message
    assert "one of eu, us" in faults[1].message
    assert "--var owner=" in faults[2].message
