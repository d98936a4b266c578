"""Claim: take a step for one attempt, or say why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection

from agentflow.domain.action import LlmAction
from agentflow.domain.budget import Budget
from agentflow.domain.ids import AttemptId, ClaimToken, RunId, StepId, StepKey, step_id
from agentflow.domain.outcome import ClaimRefusal
from agentflow.domain.plan import Step
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.state import FINAL_STEP_STATES, RunState, StepState
from agentflow.engine.context import EngineContext, PlanView
from agentflow.engine.record import ChainHead, Moves, record
from agentflow.storage import child_runs, claims, guidance, steps
from agentflow.storage.child_runs import Ancestor


@dataclass(frozen=True, slots=True)
class Claimed:
    """A step that is this process's for one attempt, until the lease ends.

    ``budget`` holds the run's caps, ``active_seconds_used`` how long it was going before this attempt, without rests.
    ``timeout_seconds`` is a person's word over the plan's, ``guidance`` the hashes of what they say to a model call.
    """

    run_id: RunId
    step_id: StepId
    key: StepKey
    attempt_id: AttemptId
    claim_token: ClaimToken
    number: int
    is_sink: bool
    plan: PlanView
    vars: Mapping[str, Any]
    project: str
    directive: str | None
    budget: Budget
    started_at: datetime
    active_seconds_used: float
    timeout_seconds: float | None = None
    guidance: tuple[str, ...] = ()
    above: tuple[Ancestor, ...] = ()
    """The runs above a child run, whose caps hold for it too."""

    @property
    def step(self) -> Step:
        """The step as this attempt performs it."""
        step = self.plan.plan.step(self.key)
        seconds = self.timeout_seconds
        return step if seconds is None else step.model_copy(update={"timeout_seconds": seconds})


def claim(context: EngineContext, run_id: RunId, key: StepKey, worker: str) -> Claimed | ClaimRefusal:
    """Take ``key`` of ``run_id`` for one attempt of ``worker``."""
    step = step_id(run_id, key)
    attempt_id, claim_token = AttemptId(uuid4()), ClaimToken(uuid4())
    answer: Claimed | ClaimRefusal
    with context.database.transaction() as tx:
        taken = claims.claim(
            tx,
            run_id,
            step,
            attempt_id=attempt_id,
            claim_token=claim_token,
            worker=worker,
            lease_seconds=context.settings.lease_seconds,
        )
        match taken:
            case claims.ClaimedStep():
                plan = context.plans.get(tx, taken.plan_fingerprint)
                is_call = isinstance(plan.plan.step(key).action, LlmAction)
                given = guidance.take(tx, run_id, step, attempt_id, key) if is_call else ()
                _record(context, tx, run_id, step, worker, taken, given)
                above = child_runs.read_ancestors(tx, child_runs.run_ids(taken.ancestors))
                answer = _claimed(run_id, step, attempt_id, claim_token, taken, plan, given, above)
            case claims.PlacelessStep():
                steps.forget_sent(tx, [step])  # this was its doorbell; its place in the line is that of its due time
                return ClaimRefusal.SLOT_BUSY
            case claims.TicketedStep():
                _snooze(context, tx, run_id, key, worker, taken)
                answer = ClaimRefusal.RATE_LIMITED
            case None:
                return _refusal(tx, run_id, step)
    if isinstance(answer, ClaimRefusal) or answer.plan.plan.step(key).rate_limit is not None:
        context.side_channel.wake()  # the next may ask, and whoever must wait has a new time
    return answer


def _record(
    context: EngineContext,
    tx: Connection,
    run_id: RunId,
    step: StepId,
    worker: str,
    taken: claims.ClaimedStep,
    given: tuple[str, ...],
) -> None:
    moves = Moves()
    moves.add_step(taken.key, taken.old_state, StepState.RUNNING)
    record(
        context,
        tx,
        ChainHead(run_id, step, taken.event_sequence, taken.event_head),
        at=taken.started_at,
        actor=f"worker:{worker}",
        action="claim",
        subject=f"step:{taken.key}",
        moves=moves,
        facts={"attempt": taken.number, **({"guidance": list(given)} if given else {})},
    )


def _snooze(
    context: EngineContext, tx: Connection, run_id: RunId, key: StepKey, worker: str, ticketed: claims.TicketedStep
) -> None:
    """Put a step off until the time of its ticket: no attempt, one event."""
    step = step_id(run_id, key)
    until = ticketed.ticket_at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    reason = Reason(ReasonCode.RATE_LIMITED, {"key": ticketed.rate_key, "until": until})
    claims.snooze(tx, step, ticketed, reason)
    record(
        context,
        tx,
        ChainHead(run_id, step, ticketed.event_sequence, ticketed.event_head),
        at=ticketed.at,
        actor=f"worker:{worker}",
        action="snooze",
        subject=f"step:{key}",
        moves=Moves(),
        reason=reason,
    )


def _claimed(
    run_id: RunId,
    step: StepId,
    attempt_id: AttemptId,
    claim_token: ClaimToken,
    taken: claims.ClaimedStep,
    plan: PlanView,
    given: tuple[str, ...],
    above: tuple[Ancestor, ...],
) -> Claimed:
    return Claimed(
        run_id=run_id,
        step_id=step,
        key=taken.key,
        attempt_id=attempt_id,
        claim_token=claim_token,
        number=taken.number,
        is_sink=taken.is_sink,
        plan=plan,
        vars=taken.vars,
        project=taken.project,
        directive=taken.directive,
        budget=taken.budget,
        started_at=taken.started_at,
        active_seconds_used=taken.active_seconds_used,
        timeout_seconds=taken.timeout_seconds,
        guidance=given,
        above=above,
    )


def _refusal(tx: Connection, run_id: RunId, step: StepId) -> ClaimRefusal:
    met = claims.find_refusal(tx, run_id, step)
    if met is None:
        return ClaimRefusal.UNKNOWN
    state = StepState(met.step_state)
    if state is StepState.CANCELLED:
        return ClaimRefusal.STEP_CANCELLED
    if state in FINAL_STEP_STATES:
        return ClaimRefusal.STEP_FINAL
    if state is StepState.RUNNING:
        return ClaimRefusal.STEP_RUNNING
    if met.run_state != RunState.RUNNING:
        return ClaimRefusal.RUN_NOT_RUNNING
    if met.is_resting:
        steps.forget_sent(tx, [step])  # this was its doorbell: the dispatcher sends another once the run goes on
        return ClaimRefusal.RUN_RESTS
    return ClaimRefusal.NOT_DUE if met.is_early else ClaimRefusal.STEP_NOT_READY
