"""Durations: what a plan may write, and that writing and reading agree."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.domain.duration import MAX_SECONDS, PATTERN, format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("700ms", 0.7),
        ("60s", 60),
        ("5m", 300),
        ("1h30m", 5400),
        ("2d", 172_800),
        ("1d2h3m4s5ms", 93_784.005),
        ("1.5s", 1.5),
        (" 5m ", 300),
        ("0s", 0),
    ],
)
def test_every_written_form_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("60", "write a unit, such as 60ms or 60s"),
        ("1.5", "write a unit, such as 1.5s or 1.5m"),
        ("-5m", "negative"),
        ("5 minutes", "no duration"),
        ("1h 30m", "no duration"),
        ("5M", "no duration"),
        ("30m1h", "fall from d to ms"),
        ("1s1s", "fall from d to ms"),
        ("", "no duration"),
        ("ms", "no duration"),
        ("0.5ms", "finer than a millisecond"),
        ("4000d", "longer than"),
        ("9" * 80 + "s", "longer than"),
        ("9" * 5000 + "s", "no duration"),
    ],
)
def test_what_is_no_duration_is_refused_with_the_reason(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_duration(text)


@given(st.integers(min_value=0, max_value=MAX_SECONDS * 1000))
def test_reading_what_was_written_gives_the_same_duration(milliseconds: int) -> None:
    text = format_duration(milliseconds / 1000)
    assert round(parse_duration(text) * 1000) == milliseconds
    assert re.fullmatch(PATTERN, text)


@given(st.text(alphabet="0123456789.dhms -", max_size=12))
def test_reading_any_text_gives_a_duration_or_a_value_error(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except ValueError:
        return
    assert 0 <= seconds <= MAX_SECONDS
    assert re.fullmatch(PATTERN, text.strip())


def test_a_negative_duration_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="negative"):
        format_duration(-1)
