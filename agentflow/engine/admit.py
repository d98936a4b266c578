"""Admit: whether a prepared attempt may begin, by its run's time, its budgets and the breaker of whom it calls.

Nothing that costs is done before this says so. What it refuses is given back: the step is snoozed, or its run rests.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from agentflow.broker.breakers import Admitted
from agentflow.domain.action import LlmAction
from agentflow.domain.budget import Amounts, BudgetKind, Exhaustion, Scope, scopes_of
from agentflow.domain.call import MEANINGS, CallProblem
from agentflow.domain.outcome import AttemptOutcome, Failed, Released
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.engine.claim import Claimed
from agentflow.engine.context import EngineContext
from agentflow.engine.reserve import ClaimGone, Exhausted, Granted, ReserveRequest, Snooze, reserve
from agentflow.executors.base import Assignment, CallingExecutor, Estimate, Executor, Performance
from agentflow.executors.command import Ended
from agentflow.storage.child_runs import Ancestor

SPREAD = 0.2
"""By how much of it the wait for a breaker is lengthened at random."""
OUTAGE_SECONDS = 10.0
"""A call that was ended at its timeout tells of an outage only if it had this long. A shorter one tells nothing."""
_BEFORE_CALL_SECONDS = 0.1
"""What a step's timeout may have lost before its call began."""


@dataclass(frozen=True, slots=True)
class Admission:
    """An attempt that may begin. ``cut_by``: its timeout is what was left of the run's active time."""

    assignment: Assignment
    trial: Trial | None = None
    cut_by: Exhaustion | None = None


@dataclass(frozen=True, slots=True)
class Trial:
    """A call that a breaker let through, to be told how it went. ``is_cut``: the step would have given it more time."""

    endpoint: str
    admitted: Admitted
    is_cut: bool = False


def admit(
    context: EngineContext, claimed: Claimed, assignment: Assignment, executor: Executor
) -> Admission | AttemptOutcome:
    """Let a prepared attempt begin, or say how it ends instead."""
    times = sorted(_active_times(claimed), key=lambda each: each.limit - each.used)
    time_over = times[0] if times else None
    if time_over is not None and time_over.used >= time_over.limit:
        return exhausted([each for each in times if each.used >= each.limit])
    estimate = executor.estimate(assignment) if isinstance(executor, CallingExecutor) else Estimate()
    if estimate.problem is not None:
        return _refused_call(estimate.problem)
    scopes = _scopes(context, claimed)
    problem = _unbounded(estimate, scopes)
    if problem is not None:
        return _refused_call(problem)
    needed = Amounts(steps=1, tokens=estimate.tokens or 0, usd_nano=estimate.usd_nano or 0)
    if _is_counted(claimed):
        refused = _reserve(context, claimed, scopes, needed)
        if refused is not None:
            return refused
    trial = _ask_breaker(context, estimate.endpoint, assignment.timeout_seconds) if estimate.endpoint else None
    return trial if isinstance(trial, Released) else _admission(assignment, trial, time_over)


def exhausted(budgets: Sequence[Exhaustion], *, was_started: bool = False) -> Released:
    """Give the attempt back because budgets do not cover it."""
    reason = Reason(ReasonCode.BUDGET_EXHAUSTED, budgets[0].as_detail())
    return Released(reason, was_started=was_started, exhausted=tuple(budgets))


def _active_times(claimed: Claimed) -> Iterator[Exhaustion]:
    """How the run, and those above it, stand with their active time, in seconds, as far as it is capped."""
    own = Ancestor(claimed.run_id, claimed.budget, claimed.active_seconds_used)
    for run in (own, *claimed.above):
        limit = run.budget.active_seconds
        if limit is not None:
            used = round(run.active_seconds_used, 3)
            yield Exhaustion(BudgetKind.ACTIVE_TIME, f"run:{run.run_id}", limit, used, reserved=0, needed=0)


def _refused_call(problem: CallProblem) -> Failed:
    detail = {"problem": problem.value, "what": MEANINGS[problem].sentence}
    return Failed(Reason(ReasonCode.CALL_FAILED, detail), is_permanent=True)


def _scopes(context: EngineContext, claimed: Claimed) -> list[Scope]:
    return scopes_of(
        claimed.run_id,
        claimed.budget,
        claimed.project,
        claimed.directive,
        claimed.started_at,
        context.settings.budgets,
        {run.run_id: run.budget for run in claimed.above},
    )


def _unbounded(estimate: Estimate, scopes: Sequence[Scope]) -> CallProblem | None:
    """Why a cap cannot be kept: the attempt has no upper bound in what is capped."""
    caps_usd = any(scope.limits.usd_nano is not None for scope in scopes)
    caps_tokens = any(scope.limits.tokens is not None for scope in scopes)
    if estimate.tokens is None and (caps_tokens or caps_usd):
        return CallProblem.UNBOUNDED
    if estimate.usd_nano is None and caps_usd:
        return CallProblem.UNKNOWN_PRICE
    return None


def _is_counted(claimed: Claimed) -> bool:
    """Whether the attempt goes through the ledger: model calls always do, others where a run caps its steps."""
    caps_steps = any(budget.steps is not None for budget in (claimed.budget, *(run.budget for run in claimed.above)))
    return isinstance(claimed.plan.plan.step(claimed.key).action, LlmAction) or caps_steps


def _reserve(context: EngineContext, claimed: Claimed, scopes: Sequence[Scope], needed: Amounts) -> Released | None:
    request = ReserveRequest(claimed.attempt_id, claimed.claim_token, claimed.step_id, tuple(scopes), needed)
    match reserve(context, request):
        case Granted():
            return None
        case Snooze(reason=reason, delay_seconds=delay_seconds):
            return Released(reason, delay_seconds=delay_seconds)
        case Exhausted(budgets=budgets):
            return exhausted(budgets)
        case ClaimGone():  # the settle will be refused
            return Released(Reason(ReasonCode.SERVERS_AWAY))


def _ask_breaker(context: EngineContext, endpoint: str, trial_seconds: float) -> Released | Trial:
    answer = context.breakers.admit(endpoint, trial_seconds)
    if isinstance(answer, Admitted):
        return Trial(endpoint, answer)
    # Spread, so that what was held back does not come back in one instant.
    seconds = round(answer.retry_after_seconds * random.uniform(1, 1 + SPREAD), 3)  # noqa: S311 - no secret
    reason = Reason(ReasonCode.BREAKER_OPEN, {"endpoint": endpoint, "seconds": seconds})
    return Released(reason, delay_seconds=seconds)


def _admission(assignment: Assignment, trial: Trial | None, time_over: Exhaustion | None) -> Admission:
    if time_over is None or time_over.limit - time_over.used >= assignment.timeout_seconds:
        return Admission(assignment, trial)
    left = time_over.limit - time_over.used
    trial = trial and replace(trial, is_cut=True)
    return Admission(replace(assignment, timeout_seconds=left), trial, replace(time_over, used=time_over.limit))


@contextmanager
def reporting(context: EngineContext, trial: Trial | None) -> Iterator[Callable[[Performance], None]]:
    """Let the block tell the breaker how its call went; one that tells nothing takes its trial back."""
    if trial is None:
        yield lambda _performance: None
        return
    is_told = False

    def tell(performance: Performance) -> None:
        nonlocal is_told
        is_outage = _is_outage(performance, trial)
        if is_outage is not None:
            context.breakers.record(trial.endpoint, not is_outage, trial.admitted)
            is_told = True

    try:
        yield tell
    finally:
        if not is_told:
            context.breakers.withdraw(trial.endpoint, trial.admitted)


def _is_outage(performance: Performance, trial: Trial) -> bool | None:
    """Whether a call found its endpoint down; None if it tells nothing of it."""
    call = performance.call
    if call is None or performance.ended is Ended.STOPPED:
        return None
    if performance.ended is Ended.TIMED_OUT:
        had_time = call.duration_seconds >= OUTAGE_SECONDS - _BEFORE_CALL_SECONDS
        return True if had_time and not trial.is_cut else None
    is_outage = call.problem is not None and MEANINGS[call.problem].is_outage
    return is_outage if call.was_sent or is_outage else None
