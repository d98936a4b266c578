"""Reasons come from the allow-list, survive their stored form and can always be put into words."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.domain.reason import SENTENCES, Reason, ReasonCode, sentence_of

REASONS = st.builds(
    Reason,
    st.sampled_from(ReasonCode),
    st.dictionaries(st.text(string.ascii_lowercase + "_", min_size=1, max_size=8), st.integers() | st.text(max_size=9)),
)


def test_every_code_has_a_sentence() -> None:
    assert set(SENTENCES) == set(ReasonCode)


@given(REASONS)
def test_a_reason_survives_its_stored_form(reason: Reason) -> None:
    assert Reason.from_json(reason.as_json()) == reason


@given(REASONS)
def test_a_reason_with_any_data_can_be_put_into_words(reason: Reason) -> None:
    assert reason.sentence


@pytest.mark.parametrize("code", ReasonCode)
def test_a_reason_without_its_data_can_be_put_into_words(code: ReasonCode) -> None:
    assert sentence_of({"code": code.value})
    assert sentence_of({"code": code.value, "detail": None})


def test_data_stands_in_the_sentence() -> None:
    reason = Reason(ReasonCode.TIMED_OUT, {"timeout_seconds": 30.0})
    assert reason.sentence == "ran longer than its timeout of 30 s"


def test_a_code_outside_the_allow_list_is_refused() -> None:
    with pytest.raises(ValueError, match="the_moon"):
        Reason.from_json({"code": "the_moon"})
