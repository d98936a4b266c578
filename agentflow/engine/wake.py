"""Wake: look at a step that is held until a time that has come; the dispatcher calls it."""

from __future__ import annotations

from sqlalchemy import Connection

from agentflow.domain.action import ApprovalAction, WaitAction
from agentflow.domain.beginning import Ends
from agentflow.domain.ids import StepId
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.state import StepState
from agentflow.engine.conclude import Concluded, Held, Verdict, conclude
from agentflow.engine.context import EngineContext
from agentflow.engine.expire import expired


def wake(context: EngineContext, step_id: StepId, actor: str) -> Concluded | None:
    """End the wait of a held step whose time has come; None when it had ended before."""
    return conclude(context, step_id, actor, "wake", _woken)


def _woken(tx: Connection, held: Held) -> Verdict | None:
    action = held.plan.plan.step(held.step.key).action
    if isinstance(action, ApprovalAction):
        return expired(tx, held)
    if not isinstance(action, WaitAction):
        return None
    if action.event is None:
        return Verdict(Ends(StepState.SUCCEEDED))
    detail = {"event": action.event, "timeout_seconds": action.timeout_seconds}
    return Verdict(Ends(StepState.FAILED, Reason(ReasonCode.NO_SIGNAL, detail)))
