"""The one table from what a model's client raises to the problem that it is, and whether the request had left.

Owns that table. An exception goes in, codes and numbers come out: its text may quote a prompt or an answer, so nothing
of it is kept. What a problem means for the step is domain/call.py's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from agentflow.domain.call import CallProblem
from agentflow.telemetry import get_logger

_log = get_logger(__name__)

_BY_STATUS: Mapping[int, CallProblem] = {
    401: CallProblem.UNAUTHENTICATED,
    402: CallProblem.QUOTA_EXCEEDED,
    403: CallProblem.FORBIDDEN,
    404: CallProblem.NOT_FOUND,
    408: CallProblem.SERVER_ERROR,  # the server waited in vain for the request
    409: CallProblem.SERVER_ERROR,  # a lock of the server's
    413: CallProblem.CONTEXT_TOO_LONG,
    429: CallProblem.RATE_LIMITED,
    503: CallProblem.UNAVAILABLE,
    529: CallProblem.OVERLOADED,
}
_BY_CODE: Mapping[str, CallProblem] = {
    "exceed_context_size_error": CallProblem.CONTEXT_TOO_LONG,  # llama.cpp's
    "context_length_exceeded": CallProblem.CONTEXT_TOO_LONG,
    "insufficient_quota": CallProblem.QUOTA_EXCEEDED,
    "content_filter": CallProblem.CONTENT_FILTERED,
    "content_policy_violation": CallProblem.CONTENT_FILTERED,
}
"""By the provider's own code or type of the error, where that says more than the status."""
_BY_CLASS: Mapping[str, CallProblem] = {
    "ModelQuotaExceededError": CallProblem.QUOTA_EXCEEDED,
    "ModelRateLimitError": CallProblem.RATE_LIMITED,
    "ModelOverloadedError": CallProblem.OVERLOADED,
    "ModelUnavailableError": CallProblem.UNAVAILABLE,
    "ModelServerError": CallProblem.SERVER_ERROR,
    "ModelContextWindowExceededError": CallProblem.CONTEXT_TOO_LONG,
    "ModelNotFoundError": CallProblem.NOT_FOUND,
    "ModelRequestRejectedError": CallProblem.REJECTED,
    "ContentFilterError": CallProblem.CONTENT_FILTERED,
    "UserError": CallProblem.REJECTED,
    "ConnectError": CallProblem.NOT_CONNECTED,
    "ConnectTimeout": CallProblem.NOT_CONNECTED,
    "PoolTimeout": CallProblem.NOT_CONNECTED,
    "TransportError": CallProblem.CONNECTION_LOST,
}
"""By the class that pydantic-ai or its transport raises, the nearest in its ancestry first."""
_UNREADABLE = ("ModelAPIError", "UnexpectedModelBehavior")
"""What is left of these, after everything else was looked up, is an answer that is none."""
_PACKAGES = ("pydantic_ai.", "httpx2")
_UNSENT_PHASES = ("pool", "connect")


@dataclass(frozen=True, slots=True)
class CallFailure:
    """What an exception of a call means, in codes and numbers only."""

    problem: CallProblem
    was_sent: bool = True
    status: int | None = None
    retry_after_seconds: float | None = None


def failure_of(error: BaseException, *, was_handed_over: bool) -> CallFailure:
    """Return what ``error`` means. ``was_handed_over``: the request had begun to leave on a connection.

    An error that the table does not know is named by its class in the log; after the request left, it is taken for an
    answer that cannot be read.
    """
    found = _look_up(error)
    if found is None:
        _log.warning("model_error_unknown", error=type(error).__name__, was_sent=was_handed_over)
        found = CallProblem.MALFORMED if was_handed_over else CallProblem.REJECTED
    status = getattr(error, "status_code", None)
    return CallFailure(
        found,
        was_sent=was_handed_over and found is not CallProblem.NOT_CONNECTED,
        status=status if isinstance(status, int) else None,
        retry_after_seconds=_seconds(getattr(error, "retry_after", None)),
    )


def _seconds(asked: object) -> float | None:
    return float(asked) if isinstance(asked, int | float) and math.isfinite(asked) and asked >= 0 else None


def _look_up(error: BaseException) -> CallProblem | None:
    for read in _READERS:
        problem = read(error)
        if problem is not None:
            return problem
    return None


def _by_phase(error: Any) -> CallProblem | None:
    if "ModelConnectionError" not in _ancestry(error):
        return None
    return CallProblem.NOT_CONNECTED if error.phase in _UNSENT_PHASES else CallProblem.CONNECTION_LOST


def _by_code(error: Any) -> CallProblem | None:
    codes = (getattr(error, "provider_error_code", None), getattr(error, "provider_error_type", None))
    return next((_BY_CODE[code] for code in codes if isinstance(code, str) and code in _BY_CODE), None)


def _by_class(error: Any) -> CallProblem | None:
    if getattr(error, "status_code", None) == HTTPStatus.FORBIDDEN and "ModelAuthenticationError" in _ancestry(error):
        return CallProblem.FORBIDDEN
    if "ModelAuthenticationError" in _ancestry(error):
        return CallProblem.UNAUTHENTICATED
    return next((_BY_CLASS[name] for name in _ancestry(error) if name in _BY_CLASS), None)


def _by_status(error: Any) -> CallProblem | None:
    status = getattr(error, "status_code", None)
    if not isinstance(status, int):
        return None
    other = CallProblem.SERVER_ERROR if status >= HTTPStatus.INTERNAL_SERVER_ERROR else CallProblem.REJECTED
    return _BY_STATUS.get(status, other)


def _by_what_is_left(error: Any) -> CallProblem | None:
    return CallProblem.MALFORMED if any(name in _UNREADABLE for name in _ancestry(error)) else None


def _ancestry(error: BaseException) -> tuple[str, ...]:
    """The names of its classes, of those packages only; by name, so that nothing of them need be loaded."""
    return tuple(each.__name__ for each in type(error).__mro__ if each.__module__.startswith(_PACKAGES))


_READERS: tuple[Callable[[Any], CallProblem | None], ...] = (
    _by_phase,
    _by_code,
    _by_class,
    _by_status,
    _by_what_is_left,
)
