"""The problems that a test may give a call, and how each comes over the wire.

Owns that table; it is the other direction of what the executors read from statuses, codes and broken connections.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from agentflow.domain.call import CallProblem
from agentflow.domain.wording import did_you_mean
from agentflow.testing.script import RehearsalError


@dataclass(frozen=True, slots=True)
class WireProblem:
    """How a problem looks on the wire: a status and a provider's code, an end of the answer, or no answer at all."""

    status: int = 200
    code: str | None = None
    finish_reason: str | None = None
    is_unconnected: bool = False
    is_cut: bool = False


WIRE: Mapping[CallProblem, WireProblem] = {
    CallProblem.RATE_LIMITED: WireProblem(429, "rate_limit_exceeded"),
    CallProblem.QUOTA_EXCEEDED: WireProblem(429, "insufficient_quota"),
    CallProblem.SERVER_ERROR: WireProblem(500, "server_error"),
    CallProblem.UNAVAILABLE: WireProblem(503, "server_error"),
    CallProblem.OVERLOADED: WireProblem(529, "overloaded_error"),
    CallProblem.UNAUTHENTICATED: WireProblem(401, "invalid_api_key"),
    CallProblem.FORBIDDEN: WireProblem(403),
    CallProblem.NOT_FOUND: WireProblem(404),
    CallProblem.CONTEXT_TOO_LONG: WireProblem(400, "context_length_exceeded"),
    CallProblem.REJECTED: WireProblem(400),
    CallProblem.CONTENT_FILTERED: WireProblem(finish_reason="content_filter"),
    CallProblem.CUT_AT_LENGTH: WireProblem(finish_reason="length"),
    CallProblem.NOT_CONNECTED: WireProblem(is_unconnected=True),
    CallProblem.CONNECTION_LOST: WireProblem(is_cut=True),
}
OF_MODELS_ONLY = (
    CallProblem.QUOTA_EXCEEDED,
    CallProblem.CONTEXT_TOO_LONG,
    CallProblem.CONTENT_FILTERED,
    CallProblem.CUT_AT_LENGTH,
)


def model_problem(name: str) -> WireProblem:
    """Return how a model's problem comes over the wire; RehearsalError names those that there are."""
    return _find(name, list(WIRE))


def service_problem(name: str) -> WireProblem:
    """Return how an HTTP service's problem comes over the wire; RehearsalError names those that there are."""
    return _find(name, [problem for problem in WIRE if problem not in OF_MODELS_ONLY])


def _find(name: str, known: list[CallProblem]) -> WireProblem:
    if name not in known:
        raise RehearsalError(f"A call cannot fail as {name!r}: {did_you_mean(name, known)}")
    return WIRE[CallProblem(name)]
