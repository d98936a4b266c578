"""Settle: record an attempt's outcome, decide what its step does next, and let its successors go. One transaction.

Rescue ends lapsed attempts through the same way with another fence. After the commit: doorbells, then the run's end.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from agentflow.domain.error import ServersUnreachable
from agentflow.domain.ids import ClaimToken, RunId, StepId, StepKey
from agentflow.domain.outcome import ATTEMPT_STATES, AttemptOutcome, Cancelled, Lost, Released
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.state import FINAL_STEP_STATES, RunState, StepState
from agentflow.domain.transition import RETURNS, NextStep, StepTerms, after_attempt
from agentflow.engine.advance import ENDING, Advance, EndedStep, RunNeeded, follow
from agentflow.engine.announce import announce
from agentflow.engine.charge import Debit, charge
from agentflow.engine.context import EngineContext, PlanView
from agentflow.engine.dispatch import first_sends, send_steps
from agentflow.engine.evaluate import Conditions, with_conditions
from agentflow.engine.finalize import finalize
from agentflow.engine.record import ChainHead, Moves, record
from agentflow.engine.reserve import settle_ledger
from agentflow.engine.trace import EndedAttempt, Work, trace_attempt
from agentflow.executors.base import CallRecord
from agentflow.storage import attempts, runs, steps
from agentflow.telemetry import get_logger

log = get_logger(__name__)

Fence = Callable[[Connection], attempts.HeldAttempt | None]


@dataclass(frozen=True, slots=True)
class Settled:
    """What the settle decided. ``is_carried``: the message at hand passes its chain on to the next step.

    ``is_dispatcher_due``: something is left for the dispatcher to send, or somebody waited for the step's place.
    """

    then: NextStep
    retry_at: datetime | None
    is_carried: bool
    ready: tuple[StepKey, ...]
    is_run_over: bool
    moves: Moves
    ended: EndedAttempt
    debit: Debit | None = None
    is_dispatcher_due: bool = False


@dataclass(frozen=True, slots=True)
class ClaimLost:
    """The fence refused: the attempt was rescued or settled before. Nothing was written."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """What to settle: whose attempt, how it ended, and which files it left."""

    run_id: RunId
    step_id: StepId
    plan: PlanView
    outcome: AttemptOutcome
    actor: str
    verb: str = "settle"
    is_sink: bool = True
    signal: int | None = None
    artifacts: Sequence[attempts.Artifact] = ()
    chain_next: StepId | None = None
    call: CallRecord | None = None
    """What happened in the attempt's call, if it made one."""
    origin: str | None = None
    """The traceparent of the message that the attempt answered."""
    began_after_seconds: float = 0.0
    """When its work began, counted from the claim."""


def settle(context: EngineContext, settlement: Settlement, claim_token: ClaimToken) -> Settled | ClaimLost:
    """Settle the attempt that ``claim_token`` fences."""
    return end_attempt(context, settlement, lambda tx: attempts.hold(tx, settlement.step_id, claim_token))


def end_attempt(context: EngineContext, settlement: Settlement, fence: Fence) -> Settled | ClaimLost:
    """End an attempt under any fence; sends doorbells and ends the run after the commit."""
    settled = with_conditions(context, lambda conditions: _attempt_to(context, settlement, fence, conditions))
    if isinstance(settled, Settled):
        work = Work(settlement.origin, settlement.call, settlement.began_after_seconds)
        trace_attempt(context, settlement.run_id, settlement.plan, settled.ended, work)
        try:
            _after_commit(context, settlement, settled)
        except ServersUnreachable as error:  # it is settled all the same; the dispatcher does the rest
            log.warning("settle_left_to_dispatcher", error=str(error))
    return settled


def _attempt_to(
    context: EngineContext, settlement: Settlement, fence: Fence, conditions: Conditions
) -> Settled | ClaimLost:
    """Settle with the run's row shared, or, where that is not enough, with the row for itself."""
    try:
        return _in_transaction(context, settlement, fence, conditions, holds_run=settlement.is_sink)
    except RunNeeded:
        return _in_transaction(context, settlement, fence, conditions, holds_run=True)


def _in_transaction(
    context: EngineContext, settlement: Settlement, fence: Fence, conditions: Conditions, *, holds_run: bool
) -> Settled | ClaimLost:
    with context.database.transaction() as tx:
        run = runs.lock(tx, settlement.run_id, is_shared=not holds_run)
        held = fence(tx) if run else None
        if run is None or held is None:
            return ClaimLost()
        settlement = replace(settlement, outcome=_by_whom(settlement.outcome, run))
        step = settlement.plan.plan.step(held.key)
        terms = StepTerms(
            step.retry,
            step.on_lost == "hold",
            held.failures,
            held.losses,
            held.is_stop_requested,
            held.postponed,
            held.joint_losses,
            context.settings.max_lost,
            _returns(tx, held, settlement.outcome),
        )
        then = after_attempt(settlement.outcome, terms, run.state, random.random())  # noqa: S311 - jitter, no secret
        stops = settlement.plan.plan.stops_run(held.key)
        if not holds_run and _must_hold_run(held, then, settlement.outcome, stops=stops):
            raise RunNeeded
        return _write(context, tx, settlement, run, held, then, conditions, holds_run=holds_run)


def _returns(tx: Connection, held: attempts.HeldAttempt, outcome: AttemptOutcome) -> int:
    if isinstance(outcome, (Released, Lost)) and outcome.reason.code in RETURNS:
        return attempts.count_returns(tx, held, RETURNS)
    return 0


def _by_whom(outcome: AttemptOutcome, run: runs.LockedRun) -> AttemptOutcome:
    """Name who cancelled or paused: the run knows it, the worker does not."""
    if isinstance(outcome, Cancelled) and run.state is RunState.CANCELLING and run.reason:
        return Cancelled(run.reason)
    if isinstance(outcome, Released) and outcome.reason.code is ReasonCode.PAUSED and run.paused:
        return replace(outcome, reason=Reason(ReasonCode.PAUSED, {"actor": run.paused.actor}))
    return outcome


def _must_hold_run(held: attempts.HeldAttempt, then: NextStep, outcome: AttemptOutcome, *, stops: bool) -> bool:
    if isinstance(outcome, Released) and outcome.exhausted:
        return True
    is_final = then.state in FINAL_STEP_STATES
    return is_final and (held.is_sink or (then.state is StepState.FAILED and stops))


def _write(
    context: EngineContext,
    tx: Connection,
    settlement: Settlement,
    run: runs.LockedRun,
    held: attempts.HeldAttempt,
    then: NextStep,
    conditions: Conditions,
    *,
    holds_run: bool,
) -> Settled:
    moves = Moves()
    moves.add_step(held.key, StepState.RUNNING, then.state)
    retry_at = attempts.end(tx, held, settlement.outcome, then, signal=settlement.signal)
    attempts.insert_artifacts(tx, run.run_id, held.step_id, held.attempt_id, settlement.artifacts)
    debit = charge(context, tx, run, settlement.plan, held, settlement.outcome, then, settlement.call)
    followed, open_sinks = Advance(run.state), run.open_sinks
    if then.state in FINAL_STEP_STATES:
        end = EndedStep(held.step_id, held.key, held.is_sink, then.state, then.reason)
        plan = settlement.plan
        followed, open_sinks = follow(tx, plan, run, end, conditions=conditions, holds_run=holds_run, moves=moves)
    is_over = followed.run_state in ENDING or (then.state in FINAL_STEP_STATES and not open_sinks)
    is_carried = settlement.chain_next in {successor.id for successor in followed.ready}
    now_sent = _stamp(tx, settlement.plan, followed, settlement.chain_next)
    is_left = moves.has_held or _is_due(settlement, held, then) or len(now_sent) + is_carried < len(followed.ready)
    record(
        context,
        tx,
        ChainHead(run.run_id, held.step_id, held.event_sequence, held.event_head),
        at=run.at,
        actor=settlement.actor,
        action=settlement.verb,
        subject=f"step:{held.key}",
        moves=moves,
        reason=then.reason,
        verdict=ATTEMPT_STATES[type(settlement.outcome)],
        facts=_facts(held, settlement.outcome),
    )
    ended = EndedAttempt(held, settlement.outcome, then, run.at)
    return Settled(then, retry_at, is_carried, now_sent, is_over, moves, ended, debit, is_left)


def _is_due(settlement: Settlement, held: attempts.HeldAttempt, then: NextStep) -> bool:
    """Whether the step falls due again, or gave a place free that others stand in line for."""
    return then.state in (StepState.RETRYING, StepState.READY) or settlement.plan.stands_in_line(held.key)


def _facts(held: attempts.HeldAttempt, outcome: AttemptOutcome) -> dict[str, Any]:
    return {"attempt": held.number, "exit_code": getattr(outcome, "exit_code", None)}


def _stamp(tx: Connection, plan: PlanView, followed: Advance, chain_next: StepId | None) -> tuple[StepKey, ...]:
    """Note the next step of the chain and the first others as sent; returns those others, which the caller sends."""
    others = first_sends(plan, [successor.key for successor in followed.ready if successor.id != chain_next])
    sent = [step.id for step in followed.ready if step.id == chain_next or step.key in others]
    steps.stamp_sent(tx, sent)
    return tuple(others)


def _after_commit(context: EngineContext, settlement: Settlement, settled: Settled) -> None:
    told = settlement.step_id if settlement.verb == "settle" else None  # by what the message at hand ends as
    announce(context, settlement.run_id, settled.moves, told=told)
    if (debit := settled.debit) is not None:
        settle_ledger(context, debit.attempt_id, debit.scopes, debit.used, debit.grant)
    if settled.ready:
        send_steps(context, settlement.run_id, settlement.plan, settled.ready)
    if settled.is_dispatcher_due:
        context.side_channel.wake()
    if settled.is_run_over:
        finalize(context, settlement.run_id, settlement.actor)
