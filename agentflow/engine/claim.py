"""Claim: take a step for one attempt, or say why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection

from agentflow.domain.ids import AttemptId, ClaimToken, RunId, StepId, StepKey, step_id
from agentflow.domain.outcome import ClaimRefusal
from agentflow.domain.state import FINAL_STEP_STATES, RunState, StepState
from agentflow.engine.context import EngineContext, PlanView
from agentflow.engine.record import ChainHead, Moves, record
from agentflow.storage import steps


@dataclass(frozen=True, slots=True)
class Claimed:
    """A step that is this process's for one attempt, until the lease ends."""

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
    return Claimed(
        run_id, step, key, attempt_id, claim_token, taken.number, taken.is_sink, plan, taken.vars, taken.project
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
    return ClaimRefusal.NOT_DUE if met.is_early else ClaimRefusal.STEP_NOT_READY
