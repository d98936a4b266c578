"""Rescue: end an attempt whose lease lapsed, so that its step goes on elsewhere or waits for a person."""

from __future__ import annotations

from agentflow.domain.ids import RunId
from agentflow.domain.outcome import Lost
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.engine.context import EngineContext
from agentflow.engine.settle import ClaimLost, Settled, Settlement, end_attempt
from agentflow.storage import attempts, runs
from agentflow.telemetry import get_logger

log = get_logger(__name__)


def rescue(
    context: EngineContext, lapsed: attempts.LapsedAttempt, actor: str, *, is_known_lost: bool = False
) -> Settled | ClaimLost:
    """End a lapsed attempt as lost; ClaimLost when its worker was back in time.

    ``is_known_lost``: the worker process is known to be gone, so that the lease need not run out first. Its command may
    still be within its kill grace, and the step is not tried again before that is over.
    """
    ending_seconds = context.settings.kill_grace_seconds if is_known_lost else 0.0
    with context.database.transaction() as tx:
        plan = context.plans.get(tx, runs.read_plan_fingerprint(tx, lapsed.run_id))
        worker = attempts.read_worker(tx, lapsed.attempt_id)
    settlement = Settlement(
        run_id=RunId(lapsed.run_id),
        step_id=lapsed.step_id,
        plan=plan,
        outcome=Lost(Reason(ReasonCode.WORKER_LOST, {"worker": worker}), ending_seconds),
        actor=actor,
        verb="rescue",
    )
    settled = end_attempt(
        context,
        settlement,
        lambda tx: attempts.hold_lapsed(tx, lapsed.step_id, lapsed.attempt_id, is_known_lost=is_known_lost),
    )
    if isinstance(settled, Settled):
        log.warning("attempt_rescued", run_id=str(lapsed.run_id), worker=worker, then=settled.then.state.value)
    return settled
