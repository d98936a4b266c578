"""Why something is as it is: a code from an allow-list, with data.

Owns the codes and their sentences. A reason never holds free text from a command, a model or a provider.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class ReasonCode(StrEnum):
    """Every code that a row, an event or a surface may carry."""

    EXIT_CODE = "exit_code"
    SIGNALLED = "signalled"
    TIMED_OUT = "timed_out"
    NOT_STARTED = "not_started"
    SUPERVISOR_LOST = "supervisor_lost"
    WORKER_LOST = "worker_lost"
    POISONED = "poisoned"
    CANCELLED = "cancelled"
    DRAINED = "drained"
    SERVERS_AWAY = "servers_away"
    TEMPLATE = "template"
    CONTENT = "content"
    SECRET_MISSING = "secret_missing"  # noqa: S105 - the name of a reason, not a secret
    OUTPUT_INVALID = "output_invalid"
    OUTPUT_TOO_LARGE = "output_too_large"
    RAISED = "raised"
    EXECUTOR_ERROR = "executor_error"
    STEP_FAILED = "step_failed"
    NEED_FAILED = "need_failed"
    NEED_SKIPPED = "need_skipped"
    NEED_CANCELLED = "need_cancelled"
    NOT_CHOSEN = "not_chosen"
    NOT_TAKEN = "not_taken"
    NO_LABEL = "no_label"
    ITEMS = "items"
    ITEMS_FAILED = "items_failed"
    AWAITS_TIME = "awaits_time"
    AWAITS_SIGNAL = "awaits_signal"
    AWAITS_DECISION = "awaits_decision"
    AWAITS_RUN = "awaits_run"
    NO_SIGNAL = "no_signal"
    REJECTED = "rejected"
    EXPIRED = "expired"
    CHILD_ENDED = "child_ended"
    OVERRIDDEN = "overridden"
    WHEN_FALSE = "when_false"
    WHEN_ERROR = "when_error"
    AWAITS_PERSON = "awaits_person"
    CALL_FAILED = "call_failed"
    CALL_POSTPONED = "call_postponed"
    BREAKER_OPEN = "breaker_open"
    BUDGET_EXHAUSTED = "budget_exhausted"
    BUDGET_CONTENDED = "budget_contended"
    BUDGET_UNSETTLED = "budget_unsettled"
    RATE_LIMITED = "rate_limited"
    PAUSED = "paused"
    OVERLAPS = "overlaps"
    CAUGHT_UP = "caught_up"
    REFUSED = "refused"
    SUPERSEDED = "superseded"
    REPLACED = "replaced"
    REUSED = "reused"


PERSON_CODES = frozenset({ReasonCode.AWAITS_DECISION, ReasonCode.AWAITS_SIGNAL, ReasonCode.AWAITS_PERSON})
"""Why a step is held that only somebody outside can let go: a run that has no other open step waits."""

SENTENCES: Mapping[ReasonCode, str] = {
    ReasonCode.EXIT_CODE: "exited with code {exit_code}",
    ReasonCode.SIGNALLED: "was ended by signal {signal}",
    ReasonCode.TIMED_OUT: "ran longer than its timeout of {timeout_seconds:g} s",
    ReasonCode.NOT_STARTED: "could not be started: {problem}",
    ReasonCode.SUPERVISOR_LOST: "lost the process that supervises its command",
    ReasonCode.WORKER_LOST: "lost its worker {worker}",
    ReasonCode.POISONED: "lost its worker {lost} times and is not tried again",
    ReasonCode.CANCELLED: "cancelled by {actor}",
    ReasonCode.DRAINED: "was given back by a stopping worker",
    ReasonCode.SERVERS_AWAY: "was given back because its worker could not reach Postgres",
    ReasonCode.TEMPLATE: "has a template that cannot be rendered: {problem}",
    ReasonCode.CONTENT: "lacks content: {problem}",
    ReasonCode.SECRET_MISSING: "lacks the secret {name} in its worker's environment",
    ReasonCode.OUTPUT_INVALID: "declared JSON output that is none: {problem}",
    ReasonCode.OUTPUT_TOO_LARGE: "declared output above {limit_bytes} bytes",
    ReasonCode.RAISED: "raised {error}",
    ReasonCode.EXECUTOR_ERROR: "met an error in its executor: {error}",
    ReasonCode.STEP_FAILED: "step {step} failed",
    ReasonCode.NEED_FAILED: "needs a step that failed",
    ReasonCode.NEED_SKIPPED: "needs a step that was skipped",
    ReasonCode.NEED_CANCELLED: "needs a step that was cancelled",
    ReasonCode.NOT_CHOSEN: "{switch} chose {choice}",
    ReasonCode.NOT_TAKEN: "needs a step that was not taken",
    ReasonCode.NO_LABEL: "names no label ({code}): {problem}",
    ReasonCode.ITEMS: "has no list to go through: {problem}",
    ReasonCode.ITEMS_FAILED: "{failed} of its {items} items did not succeed",
    ReasonCode.AWAITS_TIME: "waits until {until}",
    ReasonCode.AWAITS_SIGNAL: "waits for the signal {event}",
    ReasonCode.AWAITS_DECISION: "waits for a decision ({kind}): {given} of {count} given",
    ReasonCode.AWAITS_RUN: "waits for its child run {run}",
    ReasonCode.NO_SIGNAL: "the signal {event} did not come within {timeout_seconds:g} s",
    ReasonCode.REJECTED: "was rejected by {actor}",
    ReasonCode.EXPIRED: "nobody decided it in time",
    ReasonCode.CHILD_ENDED: "its child run {run} ended {state}",
    ReasonCode.OVERRIDDEN: "set by {actor}: {why}",
    ReasonCode.WHEN_FALSE: "its condition does not hold",
    ReasonCode.WHEN_ERROR: "its condition cannot be evaluated: {problem}",
    ReasonCode.AWAITS_PERSON: "waits for a person: on_lost is hold, and it was broken off ({after})",
    ReasonCode.CALL_FAILED: "its call {what}",
    ReasonCode.CALL_POSTPONED: "its call {what}; the other side asks to wait {seconds:g} s",
    ReasonCode.BREAKER_OPEN: "waits because calls to {endpoint} fail; the next one is tried in {seconds:g} s",
    ReasonCode.BUDGET_EXHAUSTED: "the {budget} budget of {scope} does not cover it: of {limit:,}, {used:,} used, "
    "{needed:,} needed",
    ReasonCode.BUDGET_CONTENDED: "waits for {budget} of {scope} that others have reserved",
    ReasonCode.BUDGET_UNSETTLED: "waits until it is known what its budgets have left",
    ReasonCode.RATE_LIMITED: "waits for the rate limit {key} until {until}",
    ReasonCode.PAUSED: "paused by {actor}",
    ReasonCode.OVERLAPS: "run {run} of the same schedule was still {state}",
    ReasonCode.CAUGHT_UP: "was due while nobody kept the schedules, longer ago than its catch-up window",
    ReasonCode.REFUSED: "could not be submitted: {problem}",
    ReasonCode.REUSED: "was taken over from run {run}",
    ReasonCode.SUPERSEDED: "made way for a later firing of its schedule",
    ReasonCode.REPLACED: "its schedule was replaced by {actor}",
}


@dataclass(frozen=True, slots=True)
class Reason:
    """A code with the data its sentence needs."""

    code: ReasonCode
    detail: Mapping[str, Any] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The stored and public form, ``{code, detail}``."""
        return {"code": self.code.value, "detail": dict(self.detail)}

    @property
    def sentence(self) -> str:
        """The reason in words; a missing detail shows as ``?``."""
        return sentence_of(self.as_json())

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> Reason:
        """Read the stored form; ValueError for a code outside the allow-list."""
        return cls(ReasonCode(stored["code"]), stored.get("detail") or {})


class _Gaps(dict[str, Any]):
    def __missing__(self, key: str) -> str:
        return "?"


def sentence_of(stored: Mapping[str, Any]) -> str:
    """Put a stored reason into words."""
    template = SENTENCES[ReasonCode(stored["code"])]
    try:
        return template.format_map(_Gaps(stored.get("detail") or {}))
    except ValueError:  # a gap where a number was to be formatted
        return template
