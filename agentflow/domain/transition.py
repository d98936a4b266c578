"""The transition table, and the decisions that lead along it. This module is the law on states.

Owns every legal pair of states with the verb that makes the move, what a step does after an attempt, whether a step
starts once its needs are met, and how a run ends. SQL guards may evaluate it under a lock; tests hold them against it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TypeGuard, assert_never

from agentflow.domain.blame import Blame, blame
from agentflow.domain.outcome import AttemptOutcome, Cancelled, Failed, Lost, Released, Succeeded, TimedOut
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.retry_policy import RetryPolicy
from agentflow.domain.state import AttemptState, RunState, StepState

R, S, A = RunState, StepState, AttemptState

BEGINNERS = frozenset(
    {
        "settle",
        "rescue",
        "cancel_step",
        "retry",
        "fork",
        "submit",
        "wake",
        "signal",
        "decide",
        "settle_child",
        "override",
    }
)
"""The verbs that end a step, or make a run, and with that let others begin."""
ENDERS = frozenset({"wake", "signal", "decide", "settle_child", "override"})
"""The verbs that end what the engine holds."""

TAKERS_UP = frozenset({"retry", "decide"})
"""The verbs that take up what ended: a retry, and the rejection of a gate that sends the run back."""

RUN_TRANSITIONS: Mapping[tuple[RunState, RunState], frozenset[str]] = {
    (R.PENDING, R.RUNNING): frozenset({"admit"}),
    (R.PENDING, R.CANCELLING): frozenset({"cancel"}),
    (R.RUNNING, R.FAILING): BEGINNERS,
    (R.RUNNING, R.CANCELLING): frozenset({"cancel"}),
    (R.FAILING, R.CANCELLING): frozenset({"cancel"}),
    (R.RUNNING, R.COMPLETED): frozenset({"finalize"}),
    (R.RUNNING, R.PARTIAL): frozenset({"finalize"}),
    (R.RUNNING, R.FAILED): frozenset({"finalize"}),
    (R.FAILING, R.FAILED): frozenset({"finalize"}),
    (R.CANCELLING, R.CANCELLED): frozenset({"finalize"}),
    (R.FAILED, R.RUNNING): frozenset({"retry"}),
    (R.PARTIAL, R.RUNNING): frozenset({"retry"}),
    (R.CANCELLED, R.RUNNING): frozenset({"retry"}),
}

STEP_TRANSITIONS: Mapping[tuple[StepState, StepState], frozenset[str]] = {
    (S.PENDING, S.READY): BEGINNERS,
    (S.PENDING, S.SKIPPED): BEGINNERS,
    # What the engine decides itself has no attempt: it is held, or ends, when its needs have ended.
    (S.PENDING, S.HELD): BEGINNERS,
    (S.PENDING, S.SUCCEEDED): BEGINNERS,
    (S.PENDING, S.FAILED): BEGINNERS,
    (S.HELD, S.SUCCEEDED): ENDERS,
    (S.HELD, S.FAILED): ENDERS,
    (S.READY, S.SUCCEEDED): frozenset({"override"}),
    (S.RETRYING, S.SUCCEEDED): frozenset({"override"}),
    (S.READY, S.RUNNING): frozenset({"claim"}),
    # A retrying step whose time has come is ready in all but name: the claim takes it without a write in between.
    (S.RETRYING, S.RUNNING): frozenset({"claim"}),
    (S.RUNNING, S.SUCCEEDED): frozenset({"settle"}),
    (S.RUNNING, S.FAILED): frozenset({"settle", "rescue"}),
    (S.RUNNING, S.CANCELLED): frozenset({"settle", "rescue"}),
    (S.RUNNING, S.RETRYING): frozenset({"settle"}),
    (S.RUNNING, S.READY): frozenset({"settle", "rescue"}),
    (S.RUNNING, S.HELD): frozenset({"rescue", "settle"}),
    (S.RUNNING, S.SKIPPED): frozenset({"settle", "rescue"}),
    # The rest of a run that fails, and what a person skips.
    (S.READY, S.SKIPPED): BEGINNERS,
    (S.RETRYING, S.SKIPPED): BEGINNERS,
    (S.HELD, S.SKIPPED): BEGINNERS,
    # A foreach, or an item of one, of which nothing failed but something was cancelled.
    (S.PENDING, S.CANCELLED): BEGINNERS | {"cancel"},
    (S.READY, S.CANCELLED): frozenset({"cancel", "cancel_step"}),
    (S.RETRYING, S.CANCELLED): frozenset({"cancel", "cancel_step"}),
    (S.HELD, S.CANCELLED): frozenset({"cancel", "cancel_step"}),
    (S.HELD, S.READY): TAKERS_UP,
    # A retry takes every step up as pending first, and lets go within the same transaction what waits for nothing.
    (S.HELD, S.PENDING): TAKERS_UP,
    (S.FAILED, S.READY): TAKERS_UP,
    (S.FAILED, S.PENDING): TAKERS_UP,
    (S.FAILED, S.HELD): TAKERS_UP,
    (S.SUCCEEDED, S.READY): TAKERS_UP,
    (S.SUCCEEDED, S.PENDING): TAKERS_UP,
    (S.SUCCEEDED, S.HELD): TAKERS_UP,
    (S.CANCELLED, S.READY): TAKERS_UP,
    (S.CANCELLED, S.PENDING): TAKERS_UP,
    (S.CANCELLED, S.HELD): TAKERS_UP,
    (S.CANCELLED, S.SKIPPED): frozenset({"retry"}),
    (S.SKIPPED, S.READY): TAKERS_UP,
    (S.SKIPPED, S.PENDING): TAKERS_UP,
    (S.SKIPPED, S.HELD): TAKERS_UP,
}

ATTEMPT_TRANSITIONS: Mapping[tuple[AttemptState, AttemptState], frozenset[str]] = {
    (A.RUNNING, A.SUCCEEDED): frozenset({"settle"}),
    (A.RUNNING, A.FAILED): frozenset({"settle"}),
    (A.RUNNING, A.TIMED_OUT): frozenset({"settle"}),
    (A.RUNNING, A.CANCELLED): frozenset({"settle"}),
    (A.RUNNING, A.RELEASED): frozenset({"settle"}),
    (A.RUNNING, A.LOST): frozenset({"rescue"}),
}

MAX_LOST = 3
"""How many workers a step may lose before it is failed as poisoned, unless the settings say otherwise."""
POSTPONED_MESSAGE = "rate limit"
"""What retry policies know of a call that was postponed too often."""
MAX_POSTPONED = 100
"""How often the other side may postpone a step; from then on each time counts as a failure."""
FREE_RETURNS = 3
"""So often in a row a step comes back at once from workers that stop or cannot reach Postgres; then it is put off."""
MAX_RETURN_SECONDS = 60.0
"""How long at most."""
RETURNS = frozenset({ReasonCode.DRAINED, ReasonCode.SERVERS_AWAY, ReasonCode.WORKER_LOST})
"""What an attempt ends for that its worker gave back or left behind."""


@dataclass(frozen=True, slots=True)
class StepTerms:
    """What a step's plan says about failing, and how it went so far (this attempt not counted)."""

    retry: RetryPolicy
    holds_when_lost: bool = False
    failures: int = 0
    losses: int = 0
    is_stop_requested: bool = False
    postponed: int = 0
    joint_losses: int = 0
    max_lost: int = MAX_LOST
    returns: int = 0
    """How many attempts in a row before this one ended for one of RETURNS."""


@dataclass(frozen=True, slots=True)
class NextStep:
    """What a step does after an attempt; ``delay_seconds`` counts from the settle."""

    state: StepState
    reason: Reason | None = None
    delay_seconds: float = 0.0
    counts_as_failure: bool = False
    counts_as_loss: bool = False
    counts_as_joint_loss: bool = False
    counts_as_postponed: bool = False


def after_attempt(outcome: AttemptOutcome, terms: StepTerms, run_state: RunState, fraction: float) -> NextStep:
    """Decide what a step does after an attempt.

    ``fraction`` in [0, 1) places the retry delay inside its jitter. A run that is failing or being cancelled takes
    no step back: what would have been tried again ends with the run. The same holds for a step that was asked to stop.
    """
    then = _after(outcome, terms, run_state, fraction)
    if terms.is_stop_requested and then.state in (S.READY, S.RETRYING, S.HELD):
        return replace(then, state=S.CANCELLED, reason=Reason(ReasonCode.CANCELLED, {"actor": "request"}))
    return then


def _after(outcome: AttemptOutcome, terms: StepTerms, run_state: RunState, fraction: float) -> NextStep:
    if _is_postponed(outcome):
        return _after_postponement(outcome, terms, run_state, fraction)
    match outcome:
        case Succeeded():
            return NextStep(S.SUCCEEDED)
        case Cancelled(reason=reason):
            return NextStep(S.CANCELLED, reason)
        case Failed() | TimedOut():
            return _after_failure(outcome, terms, run_state, fraction)
        case Released():
            return _after_release(outcome, terms, run_state)
        case Lost():
            return _after_loss(outcome, terms, run_state)
    assert_never(outcome)


def _is_postponed(outcome: AttemptOutcome) -> TypeGuard[Released]:
    return isinstance(outcome, Released) and outcome.reason.code is ReasonCode.CALL_POSTPONED


def _after_postponement(released: Released, terms: StepTerms, run_state: RunState, fraction: float) -> NextStep:
    """Wait as long as the other side asks, at least a first retry's delay; waiting that does not end is an outage."""
    if terms.postponed >= MAX_POSTPONED:
        return _after_failure(Failed(released.reason, message=POSTPONED_MESSAGE), terms, run_state, fraction)
    then = _after_release(released, terms, run_state)
    if then.state is not S.READY:
        return then
    delay_seconds = max(then.delay_seconds, terms.retry.delay_seconds(1, fraction))
    return replace(then, delay_seconds=delay_seconds, counts_as_postponed=True)


def _after_failure(outcome: Failed | TimedOut, terms: StepTerms, run_state: RunState, fraction: float) -> NextStep:
    failures = terms.failures + 1
    if failures >= terms.retry.max_attempts or run_state is not R.RUNNING or not _is_retryable(outcome, terms.retry):
        return NextStep(S.FAILED, outcome.reason, counts_as_failure=True)
    delay = terms.retry.delay_seconds(failures, fraction)
    return NextStep(S.RETRYING, outcome.reason, delay, counts_as_failure=True)


def _is_retryable(outcome: Failed | TimedOut, policy: RetryPolicy) -> bool:
    if isinstance(outcome, TimedOut):
        return policy.is_retryable(exit_code=outcome.exit_code, is_timeout=True, message="")
    if outcome.is_permanent:
        return False
    return policy.is_retryable(exit_code=outcome.exit_code, is_timeout=False, message=outcome.message)


def _after_release(released: Released, terms: StepTerms, run_state: RunState) -> NextStep:
    if run_state is R.CANCELLING:
        return NextStep(S.CANCELLED, released.reason)
    if run_state is R.FAILING:
        return NextStep(S.SKIPPED, released.reason)
    if terms.holds_when_lost and released.was_started:
        return NextStep(S.HELD, _awaits_person(released.reason))
    delay_seconds = released.delay_seconds
    if released.reason.code in RETURNS:
        delay_seconds = max(delay_seconds, _return_seconds(terms.returns))
    return NextStep(S.READY, released.reason, delay_seconds)


def _return_seconds(returns: int) -> float:
    """How long a step is put off that came back so often before: what counts against nothing must not spin."""
    if returns < FREE_RETURNS:
        return 0.0
    return min(MAX_RETURN_SECONDS, 2.0 ** min(returns - FREE_RETURNS, 10))


def _after_loss(lost: Lost, terms: StepTerms, run_state: RunState) -> NextStep:
    blamed = blame(lost.company, terms.joint_losses)
    then = _without_worker(lost, terms, run_state, terms.losses + (blamed is Blame.STEP))
    if blamed is Blame.NOBODY and then.state is S.READY:
        then = replace(then, delay_seconds=max(then.delay_seconds, _return_seconds(terms.returns)))
    return replace(then, counts_as_loss=blamed is Blame.STEP, counts_as_joint_loss=blamed is Blame.COMPANY)


def _without_worker(lost: Lost, terms: StepTerms, run_state: RunState, losses: int) -> NextStep:
    if run_state is R.CANCELLING:
        return NextStep(S.CANCELLED, lost.reason)
    if losses >= terms.max_lost:
        return NextStep(S.FAILED, Reason(ReasonCode.POISONED, {"lost": losses}))
    if run_state is R.FAILING:
        return NextStep(S.SKIPPED, lost.reason)
    if terms.holds_when_lost:
        return NextStep(S.HELD, _awaits_person(lost.reason))
    return NextStep(S.READY, lost.reason, lost.ending_seconds)


def _awaits_person(reason: Reason) -> Reason:
    return Reason(ReasonCode.AWAITS_PERSON, {"after": reason.code.value, **reason.detail})


UNTAKEN = frozenset({ReasonCode.WHEN_FALSE, ReasonCode.NOT_CHOSEN, ReasonCode.NOT_TAKEN, ReasonCode.OVERRIDDEN})
"""Why a step is skipped that nobody meant to run, or that a person left out: its way through the graph was not taken,
and nothing went wrong."""


@dataclass(frozen=True, slots=True)
class NeedsMet:
    """How the needs of a step ended, once all have; ``untaken`` are those of the skipped that were not taken."""

    succeeded: int = 0
    failed: int = 0
    skipped: int = 0
    cancelled: int = 0
    untaken: int = 0

    @property
    def broken(self) -> int:
        """How many were to run and did not succeed."""
        return self.failed + self.cancelled + self.skipped - self.untaken


def after_needs(when: str, needs: NeedsMet) -> NextStep | None:
    """Decide whether a step starts now that its needs are final; None where ``when`` is an expression to evaluate.

    ``always`` starts whatever happened and ``failed`` once a need failed. ``taken`` and ``any`` merge: needs whose way
    was not taken do not count; ``taken`` fails when one of the others did not succeed, ``any`` when none of them did.
    Any other step is skipped with a skipped or cancelled need.
    """
    if when == "always" or (when == "failed" and needs.failed):
        return NextStep(S.READY)
    if when in ("taken", "any"):
        return _after_merging(when, needs)
    if needs.skipped == needs.untaken > 0 and not (needs.cancelled or needs.failed):
        return NextStep(S.SKIPPED, Reason(ReasonCode.NOT_TAKEN))
    if needs.skipped or needs.cancelled:
        return NextStep(S.SKIPPED, Reason(ReasonCode.NEED_SKIPPED))
    if when == "failed":
        return NextStep(S.SKIPPED, Reason(ReasonCode.WHEN_FALSE))
    if when == "succeeded":
        return NextStep(S.SKIPPED, Reason(ReasonCode.NEED_FAILED)) if needs.failed else NextStep(S.READY)
    return None


def _after_merging(when: str, needs: NeedsMet) -> NextStep:
    if needs.broken and (when == "taken" or not needs.succeeded):
        return NextStep(S.FAILED, Reason(ReasonCode.NEED_FAILED))
    return NextStep(S.READY) if needs.succeeded else NextStep(S.SKIPPED, Reason(ReasonCode.NOT_TAKEN))


@dataclass(frozen=True, slots=True)
class StepTally:
    """How the steps of a run ended; ``stopping`` are those of the failed ones with on_failure stop.

    ``failed`` leaves out those with on_failure ignore; ``partial`` succeeded although something inside of them failed.
    """

    succeeded: int = 0
    failed: int = 0
    partial: int = 0
    stopping: int = 0
    skipped: int = 0
    cancelled: int = 0
    broken_conditions: int = 0


def run_end(state: RunState, tally: StepTally) -> RunState:
    """Decide how a run ends whose steps are all final."""
    if state is R.CANCELLING:
        return R.CANCELLED
    if state is R.FAILING or tally.stopping:
        return R.FAILED
    if not (tally.failed or tally.partial or tally.broken_conditions or tally.cancelled):
        return R.COMPLETED
    return R.PARTIAL if tally.succeeded else R.FAILED
