"""Dispatch: send doorbells for ready steps. Always after the commit that noted them as sent; never the truth."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from agentflow.broker import dispatch as broker
from agentflow.domain.error import ServersUnreachable
from agentflow.domain.ids import RunId, StepKey, step_id
from agentflow.engine.context import EngineContext, PlanView
from agentflow.engine.trace import begin_sending, trace_sending
from agentflow.storage import steps
from agentflow.storage.database import ConflictingWrite
from agentflow.telemetry import get_logger

log = get_logger(__name__)

SENDS_PER_SETTLE = 16
"""How many doorbells a submit or a settle sends itself; the dispatcher sends the rest."""


def first_sends(plan: PlanView, ready: Iterable[StepKey]) -> list[StepKey]:
    """Return those of the ready steps whose doorbells a verb sends itself; the dispatcher sends all others."""
    return [key for key in ready if not plan.stands_in_line(key)][:SENDS_PER_SETTLE]


def send_steps(
    context: EngineContext,
    run_id: RunId,
    plan: PlanView,
    keys: Sequence[StepKey],
    retries: Mapping[StepKey, int] | None = None,
) -> bool:
    """Send one chain for each of the steps, noted as sent before; False when Redis does not take them.

    Their notes are then taken back, so that the dispatcher sends them once Redis is there again.
    """
    limit, tried = context.settings.chain_limit, retries or {}
    stretches = [plan.bells(run_id, key, limit, tried.get(key, 0)) for key in keys]
    sending, heads = begin_sending(context, run_id), [bells[0] for bells in stretches]
    try:
        broker.send(context.celery, stretches, None if sending is None else sending.header)
    except ServersUnreachable as error:
        trace_sending(context, run_id, sending, heads, error.code)
        log.warning("doorbells_not_sent", run_id=str(run_id), steps=len(keys), error=str(error))
        _take_back(context, run_id, keys)
        return False
    trace_sending(context, run_id, sending, heads)
    return True


def _take_back(context: EngineContext, run_id: RunId, keys: Sequence[StepKey]) -> None:
    """Take the notes back; never an error, since what the caller did is committed, and lost notes are found later."""
    try:
        with context.database.transaction() as tx:
            steps.forget_sent(tx, [step_id(run_id, key) for key in keys])
    except (ServersUnreachable, ConflictingWrite) as error:
        log.warning("notes_not_taken_back", run_id=str(run_id), steps=len(keys), error=str(error))
