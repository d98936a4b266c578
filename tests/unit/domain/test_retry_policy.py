"""Retry policies: delays stay within their bounds, and only what is listed is retried."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from agentflow.domain.retry_policy import DEFAULT_RETRY, Backoff, RetryPolicy

FRACTIONS = st.floats(min_value=0, max_value=1, exclude_max=True)
POLICIES = st.builds(
    RetryPolicy,
    backoff=st.sampled_from(Backoff),
    base_seconds=st.floats(min_value=0, max_value=1e6),
    factor=st.floats(min_value=1, max_value=1000),
    max_delay_seconds=st.floats(min_value=0, max_value=1e6),
    jitter=st.floats(min_value=0, max_value=1),
)


@pytest.mark.parametrize(("failed", "delay"), [(1, 0.7), (2, 1.4), (3, 2.8)])
def test_the_default_policy_doubles_from_seven_tenths_of_a_second(failed: int, delay: float) -> None:
    assert DEFAULT_RETRY.delay_seconds(failed, 0.5) == pytest.approx(delay)


@pytest.mark.parametrize(
    ("backoff", "delays"),
    [
        (Backoff.EXPONENTIAL, [2, 6, 18, 54]),
        (Backoff.LINEAR, [2, 4, 6, 8]),
        (Backoff.CONSTANT, [2, 2, 2, 2]),
    ],
)
def test_each_backoff_grows_in_its_own_way(backoff: Backoff, delays: list[float]) -> None:
    policy = RetryPolicy(backoff=backoff, base_seconds=2, factor=3, max_delay_seconds=100, jitter=0)
    assert [policy.delay_seconds(failed, 0.9) for failed in (1, 2, 3, 4)] == delays


def test_jitter_spreads_the_delay_evenly_around_its_middle() -> None:
    assert DEFAULT_RETRY.delay_seconds(1, 0) == pytest.approx(0.7 * 0.75)
    assert DEFAULT_RETRY.delay_seconds(1, 0.999_999) == pytest.approx(0.7 * 1.25, rel=1e-4)


@given(POLICIES, st.integers(min_value=1, max_value=10_000), FRACTIONS)
def test_no_delay_is_negative_or_above_the_cap(policy: RetryPolicy, failed: int, fraction: float) -> None:
    assert 0 <= policy.delay_seconds(failed, fraction) <= policy.max_delay_seconds


@given(POLICIES, st.integers(min_value=1, max_value=50), FRACTIONS)
def test_a_delay_never_shrinks_from_attempt_to_attempt(policy: RetryPolicy, failed: int, fraction: float) -> None:
    assert policy.delay_seconds(failed + 1, fraction) >= policy.delay_seconds(failed, fraction)


@given(st.integers(min_value=1, max_value=6), FRACTIONS)
def test_jitter_stays_within_its_share_of_the_delay(failed: int, fraction: float) -> None:
    middle = 0.7 * 2 ** (failed - 1)
    assert middle * 0.75 - 1e-9 <= DEFAULT_RETRY.delay_seconds(failed, fraction) <= middle * 1.25 + 1e-9


def test_there_is_no_delay_before_the_first_failure() -> None:
    with pytest.raises(ValueError, match="at least one"):
        DEFAULT_RETRY.delay_seconds(0, 0.5)


@pytest.mark.parametrize("exit_code", [75, 101, 111, 125])
def test_the_default_policy_retries_the_known_passing_exit_codes(exit_code: int) -> None:
    assert DEFAULT_RETRY.is_retryable(exit_code, is_timeout=False, message="")


@pytest.mark.parametrize(
    ("exit_code", "is_timeout", "message", "expected"),
    [
        (1, False, "syntax error", False),
        (None, False, "", False),
        (124, True, "", True),
        (1, False, "HTTP 429: Rate Limit exceeded", True),
        (1, False, "a TRANSIENT NETWORK error", True),
        (1, False, "rate  limit", False),
    ],
)
def test_the_default_policy_retries_timeouts_and_listed_messages_only(
    exit_code: int | None, is_timeout: bool, message: str, expected: bool
) -> None:
    assert DEFAULT_RETRY.is_retryable(exit_code, is_timeout, message) is expected


def test_a_policy_without_timeouts_does_not_retry_one() -> None:
    policy = RetryPolicy(on_exit_codes=(75,))
    assert not policy.is_retryable(124, is_timeout=True, message="")


def test_a_policy_that_retries_everything_asks_no_more() -> None:
    assert RetryPolicy(retries_everything=True).is_retryable(None, is_timeout=False, message="")


@pytest.mark.parametrize(
    "values", [{"max_attempts": 0}, {"jitter": 1.1}, {"factor": 0.9}, {"base_seconds": -1}, {"max_delay_seconds": -1}]
)
def test_a_policy_beyond_the_bounds_cannot_be_built(values: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        RetryPolicy.model_validate(values)
