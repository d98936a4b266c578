"""Rescue: end an attempt whose lease lapsed, so that its step goes on elsewhere or waits for a person.

Which step a lost worker is laid to is domain/blame.py's; here the circumstances of the loss are gathered.
"""

from __future__ import annotations

from typing import Any

from agentflow.domain.blame import Company
from agentflow.domain.ids import RunId
from agentflow.domain.outcome import Lost
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.engine.context import EngineContext
from agentflow.engine.settle import ClaimLost, Settled, Settlement, end_attempt
from agentflow.storage import attempts, runs
from agentflow.telemetry import get_logger

log = get_logger(__name__)


def rescue(
    context: EngineContext,
    lapsed: attempts.LapsedAttempt,
    actor: str,
    *,
    is_known_lost: bool = False,
    is_stopping: bool = False,
) -> Settled | ClaimLost:
    """End a lapsed attempt as lost; ClaimLost when its worker was back in time.

    ``is_known_lost``: its pool child is known to be gone, alone, so that the lease need not run out first. Its command
    may still be within its kill grace, and the step is not tried again before that is over. ``is_stopping``: the
    worker said that it was being stopped.
    """
    with context.database.transaction() as tx:
        plan = context.plans.get(tx, runs.read_plan_fingerprint(tx, lapsed.run_id))
        loss = attempts.read_loss(tx, lapsed.attempt_id, context.settings.lease_seconds)
    company = Company(is_stopping=is_stopping or loss.company.is_stopping) if is_known_lost else loss.company
    ending_seconds = context.settings.kill_grace_seconds if is_known_lost else 0.0
    settlement = Settlement(
        run_id=RunId(lapsed.run_id),
        step_id=lapsed.step_id,
        plan=plan,
        outcome=Lost(Reason(ReasonCode.WORKER_LOST, _detail(loss, company)), ending_seconds, company),
        actor=actor,
        verb="rescue",
    )
    settled = end_attempt(
        context,
        settlement,
        lambda tx: attempts.hold_lapsed(tx, lapsed.step_id, lapsed.attempt_id, is_known_lost=is_known_lost),
    )
    if isinstance(settled, Settled):
        then = settled.then
        about = {"lost_with": company.others, "is_blamed": then.counts_as_loss, "then": then.state.value}
        log.warning("attempt_rescued", run_id=str(lapsed.run_id), worker=loss.worker, **about)
    return settled


def _detail(loss: attempts.Loss, company: Company) -> dict[str, Any]:
    """What a reason tells of a loss; who is lost with it reads there whether it was a suspect."""
    detail: dict[str, Any] = {"worker": loss.worker}
    if company.others:
        detail["lost_with"] = company.others
    if loss.is_suspected:
        detail["is_suspected"] = True
    return detail
