"""Charge: what an attempt cost, from what it had reserved and what its call says; and a run that rests over its budget.

Released is only what was provably not used: the call was not sent, or the other side refused it. Whatever else has no
reported usage is charged in full as estimated, since a lost answer may have been paid for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection

from agentflow.domain.action import LlmAction
from agentflow.domain.budget import Amounts, Budget, Exhaustion, Scope, run_of, scopes_of
from agentflow.domain.call import MEANINGS, CallUsage
from agentflow.domain.ids import AttemptId
from agentflow.domain.outcome import AttemptOutcome, Released
from agentflow.domain.plan import Step
from agentflow.domain.state import FINAL_STEP_STATES, RunState
from agentflow.domain.transition import NextStep
from agentflow.engine.context import EngineContext, PlanView
from agentflow.executors.base import CallRecord
from agentflow.storage import runs, spending
from agentflow.storage.attempts import HeldAttempt


@dataclass(frozen=True, slots=True)
class Debit:
    """What the ledger must be told after the commit: the attempt's scopes, and what it used (None: nothing)."""

    attempt_id: AttemptId
    scopes: tuple[Scope, ...]
    used: Amounts | None
    grant: str | None


def charge(
    context: EngineContext,
    tx: Connection,
    run: runs.LockedRun,
    plan: PlanView,
    held: HeldAttempt,
    outcome: AttemptOutcome,
    then: NextStep,
    record: CallRecord | None,
) -> Debit | None:
    """Record what an ended attempt used, and let its run rest if budgets did not cover it; None if it reserved nothing.

    In the transaction that ends the attempt, which holds the run alone if the outcome names budgets.
    """
    is_going_on = run.state is RunState.RUNNING and then.state not in FINAL_STEP_STATES
    if isinstance(outcome, Released) and outcome.exhausted and is_going_on:
        _exhaust(tx, run, outcome.exhausted)
    if held.reserved is None:
        return None
    owner, step = runs.read_owner(tx, run.run_id), plan.plan.step(held.key)
    used = _charge_call(tx, run, step, held, held.reserved, outcome, record, owner) if held.grant else None
    configured = context.settings.budgets
    above = dict.fromkeys(owner.ancestors, Budget())
    scopes = scopes_of(run.run_id, Budget(), owner.project, owner.directive, held.started_at, configured, above)
    return Debit(held.attempt_id, tuple(scopes), used, held.grant)


def _exhaust(tx: Connection, run: runs.LockedRun, exhaustions: Sequence[Exhaustion]) -> None:
    """Let the run rest over what still does not do: its budget, or one above it, may have been raised meanwhile."""
    lasting = [each for each in exhaustions if _still_lacks(tx, each)]
    if lasting:
        runs.exhaust(tx, run, lasting)


def _still_lacks(tx: Connection, exhaustion: Exhaustion) -> bool:
    owner = run_of(exhaustion.scope)
    return owner is None or exhaustion.is_short_of(runs.read_budget(tx, owner))


def _charge_call(
    tx: Connection,
    run: runs.LockedRun,
    step: Step,
    held: HeldAttempt,
    reserved: Amounts,
    outcome: AttemptOutcome,
    record: CallRecord | None,
    owner: runs.Owner,
) -> Amounts | None:
    """Return what a granted attempt used, None for nothing; the row of its call is written if one was sent."""
    steps = 0 if isinstance(outcome, Released) else 1
    if not isinstance(step.action, LlmAction) or _was_not_sent(outcome, record):
        return Amounts(steps=steps) if steps else None
    usage = _usage(reserved, record)
    spending.insert_call(tx, run.run_id, _call(step.action, held, usage, record, owner))
    return Amounts(steps=steps, tokens=usage.tokens, usd_nano=usage.usd_nano or 0)


def _was_not_sent(outcome: AttemptOutcome, record: CallRecord | None) -> bool:
    if record is None:  # nobody knows, unless it was given back before anything began
        return isinstance(outcome, Released) and not outcome.was_started
    return not record.was_sent


def _usage(reserved: Amounts, record: CallRecord | None) -> CallUsage:
    if record is not None and record.usage is not None:
        return record.usage
    if record is not None and record.problem is not None and MEANINGS[record.problem].is_refusal:
        return CallUsage(usd_nano=0)
    # Nothing was reserved of money where the price is unknown; that it is zero, only the executor could say.
    return CallUsage(input_tokens=reserved.tokens, usd_nano=reserved.usd_nano or None, is_estimated=True)


def _call(
    action: LlmAction, held: HeldAttempt, usage: CallUsage, record: CallRecord | None, owner: runs.Owner
) -> spending.LlmCall:
    """The call as its row says; of one that nobody told of, what the plan and the reservation know."""
    provider, _, model = action.model.partition(":")
    known = record or CallRecord(provider, model, was_sent=True)
    return spending.LlmCall(
        attempt_id=held.attempt_id,
        step_id=held.step_id,
        project=owner.project,
        directive=owner.directive,
        provider=known.provider,
        model=known.model,
        usage=usage,
        started_at=held.started_at,
        duration_seconds=known.duration_seconds,
        finish_reason=known.finish_reason,
        problem=known.problem.value if known.problem is not None else None,
        request_sha256=known.request_sha256,
        answer_sha256=known.answer_sha256,
    )
