"""The table from exceptions to problems, where no server of a test can bring them about."""

from __future__ import annotations

import logging

import httpx2
import pytest
from pydantic_ai.exceptions import (
    ContentFilterError,
    ModelAPIError,
    ModelConnectionError,
    ModelHTTPError,
    ModelRequestRejectedError,
    ModelTimeoutError,
    UnexpectedModelBehavior,
    UserError,
)

from agentflow.domain.call import MEANINGS, CallProblem
from agentflow.executors.model_errors import CallFailure, failure_of

SECRET = "what the prompt said"


def _http(status: int, **fields: object) -> ModelHTTPError:
    return ModelHTTPError(status, "m", {"error": SECRET}, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (_http(402), CallProblem.QUOTA_EXCEEDED),
        (_http(403), CallProblem.FORBIDDEN),
        (_http(408), CallProblem.SERVER_ERROR),
        (_http(409), CallProblem.SERVER_ERROR),
        (_http(413), CallProblem.CONTEXT_TOO_LONG),
        (_http(418), CallProblem.REJECTED),
        (_http(529), CallProblem.OVERLOADED),
        (_http(599), CallProblem.SERVER_ERROR),
        (_http(400, provider_error_code="content_filter"), CallProblem.CONTENT_FILTERED),
        (ModelRequestRejectedError("m", SECRET), CallProblem.REJECTED),
        (ContentFilterError(SECRET), CallProblem.CONTENT_FILTERED),
        (ModelAPIError("m", SECRET), CallProblem.MALFORMED),
        (UnexpectedModelBehavior(SECRET), CallProblem.MALFORMED),
        (ModelConnectionError("m", SECRET), CallProblem.CONNECTION_LOST),
        (ModelTimeoutError("m", SECRET, phase="read"), CallProblem.CONNECTION_LOST),
        (httpx2.ReadError(SECRET), CallProblem.CONNECTION_LOST),
    ],
)
def test_a_request_that_had_left_is_never_called_unsent(error: Exception, problem: CallProblem) -> None:
    failure = failure_of(error, was_handed_over=True)

    assert (failure.problem, failure.was_sent) == (problem, True)
    assert SECRET not in repr(failure)


@pytest.mark.parametrize(
    "error",
    [
        ModelConnectionError("m", SECRET, phase="connect"),
        ModelTimeoutError("m", SECRET, phase="connect"),
        ModelTimeoutError("m", SECRET, phase="pool"),
        httpx2.ConnectError(SECRET),
    ],
)
def test_without_a_connection_nothing_was_sent(error: Exception) -> None:
    assert failure_of(error, was_handed_over=False) == CallFailure(CallProblem.NOT_CONNECTED, was_sent=False)


def test_a_request_that_the_client_refuses_to_make_was_not_sent() -> None:
    assert failure_of(UserError(SECRET), was_handed_over=False) == CallFailure(CallProblem.REJECTED, was_sent=False)


@pytest.mark.parametrize(("asked", "seconds"), [("7", 7.0), ("0", 0.0), ("-3", None), ("nan", None), ("soon", None)])
def test_the_time_to_wait_is_taken_only_if_it_is_one(asked: str, seconds: float | None) -> None:
    failure = failure_of(_http(429, headers={"Retry-After": asked}), was_handed_over=True)

    assert (failure.problem, failure.status, failure.retry_after_seconds) == (CallProblem.RATE_LIMITED, 429, seconds)


@pytest.mark.parametrize(("was_handed_over", "problem"), [(True, "malformed"), (False, "rejected")])
def test_an_unknown_error_is_logged_by_its_class_alone(
    caplog: pytest.LogCaptureFixture, was_handed_over: bool, problem: str
) -> None:
    class Odd(Exception):
        status_code = SECRET
        provider_error_code = (SECRET,)

    with caplog.at_level(logging.DEBUG):
        failure = failure_of(Odd(SECRET), was_handed_over=was_handed_over)

    assert (failure.problem, failure.was_sent, failure.status) == (CallProblem(problem), was_handed_over, None)
    assert "Odd" in caplog.text
    assert SECRET not in caplog.text


def test_every_problem_has_a_meaning() -> None:
    assert set(MEANINGS) == set(CallProblem)
