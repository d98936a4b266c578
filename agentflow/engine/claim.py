"""Claim: take a step for one attempt, or say why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection

from agentflow.domain.budget import Budget
from agentflow.domain.ids import AttemptId, ClaimToken, RunId, StepId, StepKey, step_id
from agentflow.domain.outcome import ClaimRefusal
from agentflow.domain.state import FINAL_STEP_STATES, RunState, StepState
from agentflow.engine.context import EngineContext, PlanView
from agentflow.engine.record import ChainHead, Moves, record
from agentflow.storage import steps


@dataclass(frozen=True, slots=True)
class Claimed:
    """A step that is this process's for one attempt, until the lease ends.

    ``budget`` holds the run's caps, ``active_seconds_used`` how long it was going before this attempt, without rests.
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


def claim(context: EngineContext, run_id: RunId, key: StepKey, worker: str) -> Claimed | ClaimRefusal:
    """Take ``key`` of ``run_id`` for one attempt of ``worker``."""
    step = step_id(run_id, key)
    attempt_id, claim_token = AttemptId(uuid4()), ClaimToken(uuid4())
    with context.database.transaction() as tx:
        taken = steps.claim(
            tx,
            run_id,
            step,
            attempt_id=attempt_id,
            claim_token=claim_token,
            worker=worker,
            lease_seconds=context.settings.lease_seconds,
        )
        if taken is None:
            return _refusal(tx, run_id, step)
        moves = Moves()
        moves.add_step(key, taken.old_state, StepState.RUNNING)
        record(
            context,
            tx,
            ChainHead(run_id, step, taken.event_sequence, taken.event_head),
            at=taken.started_at,
            actor=f"worker:{worker}",
            action="claim",
            subject=f"step:{key}",
            moves=moves,
            facts={"attempt": taken.number},
        )
        plan = context.plans.get(tx, taken.plan_fingerprint)
    return _claimed(run_id, step, attempt_id, claim_token, taken, plan)


def _claimed(
    run_id: RunId,
    step: StepId,
    attempt_id: AttemptId,
    claim_token: ClaimToken,
    taken: steps.ClaimedStep,
    plan: PlanView,
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
    )


def _refusal(tx: Connection, run_id: RunId, step: StepId) -> ClaimRefusal:
    met = steps.find_refusal(tx, run_id, step)
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
