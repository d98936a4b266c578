"""Values as a person reads them."""

from __future__ import annotations

from uuid import UUID

import pytest

from agentflow.cli import words
from agentflow.domain.state import AttemptState, ShownRunState, StepState


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (None, ""),
        (0, "0 ms"),
        (0.0094, "9 ms"),
        (1.44, "1.4 s"),
        (12.9, "12 s"),
        (184, "3 m 04 s"),
        (7500, "2 h 05 m"),
        (273_600, "3 d 04 h"),
    ],
)
def test_a_duration_has_two_units_at_most(seconds: float | None, expected: str) -> None:
    assert words.duration(seconds) == expected


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0 B"), (999, "999 B"), (1200, "1.2 kB"), (104_857_600, "104.9 MB"), (7e12, "7.0 TB")]
)
def test_a_size_has_one_unit(count: float, expected: str) -> None:
    assert words.size(int(count)) == expected


def test_an_id_is_read_by_its_first_eight_digits() -> None:
    assert words.short_id(UUID("1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed")) == "1b9d6bcd"


def test_a_reason_is_a_sentence() -> None:
    assert words.reason({"code": "exit_code", "detail": {"exit_code": 75}}) == "exited with code 75"
    assert words.reason(None) == ""


def test_a_reason_of_a_later_version_shows_its_code() -> None:
    assert words.reason({"code": "struck_by_lightning", "detail": {}}) == "struck_by_lightning"


def test_every_state_has_a_colour_and_every_step_state_a_sign() -> None:
    states = {state.value for kind in (ShownRunState, StepState, AttemptState) for state in kind}

    assert states <= set(words.STATE_STYLES)
    assert {state.value for state in StepState} == set(words.SIGNS)
    assert len(set(words.SIGNS.values())) == len(words.SIGNS)


def test_a_name_that_a_command_chose_moves_no_cursor() -> None:
    assert words.printable("a\n\x1b[2Jb\u202e \u00fc.md") == r"a\n\x1b[2Jb\u202e ü.md"


def test_a_count_knows_its_plural() -> None:
    assert [words.count(number, "step") for number in (0, 1, 2)] == ["0 steps", "1 step", "2 steps"]


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        ("tokens", 1_234_567, "1,234,567 tokens"),
        ("steps", 50, "50 steps"),
        ("usd", 0.5, "$0.50"),
        ("usd", 1234.5, "$1,234.50"),
        ("usd", 0.000045, "$0.000045"),
        ("usd", 3, "$3.00"),
        ("active_time", 600, "10 m 00 s of active time"),
    ],
)
def test_an_amount_says_what_is_counted(kind: str, value: float, expected: str) -> None:
    assert words.amount(kind, value) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("run:1b9d6bcd-bbfd-4b2d-9b5d-ab8dfbbd4bed", "the run"),
        ("project:ops", "project ops"),
        ("directive:ops/careful@2026-11-21", "directive ops/careful on 2026-11-21"),
        ("installation", "the installation"),
        ("installation@2026-11-21", "the installation on 2026-11-21"),
    ],
)
def test_a_scope_says_whose_budget_it_is(name: str, expected: str) -> None:
    assert words.scope(name) == expected


def test_an_exhausted_budget_of_another_version_is_still_told() -> None:
    assert words.reason({"code": "budget_exhausted", "detail": {"budget": "tokens"}}) == "a budget is exhausted"
