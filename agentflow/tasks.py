"""The Celery tasks: one a kind of action, ids only. Each answers one doorbell and tells Celery the truth about it."""

from __future__ import annotations

import os
from datetime import datetime
from uuid import UUID

from celery import Celery, Task
from celery.exceptions import Ignore, Retry, TaskPredicate

from agentflow import runtime
from agentflow.broker.canvas import next_in_chain, origin_of
from agentflow.broker.queues import task_name
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.outcome import ClaimRefusal
from agentflow.domain.state import StepState
from agentflow.engine.announce import events_of
from agentflow.engine.context import EngineContext
from agentflow.engine.execute import Doorbell, Executed, Refused, execute
from agentflow.engine.settle import ClaimLost, Settled
from agentflow.telemetry import get_logger

log = get_logger(__name__)


class StepFailed(Exception):
    """What a monitor is shown of a failed step: the reason's words, never output."""


class ToldAs(Ignore):
    """Nothing more is to be done for this message, and monitors are told by an event: its type, and its fields."""


def register(app: Celery, actions: tuple[str, ...], *, request_class: str = "celery.worker.request:Request") -> None:
    """Register a task for each action; ``request_class`` names what a worker makes of its messages."""
    for action in actions:
        app.task(
            answer,
            name=task_name(action),
            bind=True,
            ignore_result=True,
            shared=False,
            throws=(StepFailed,),  # a failed step is no error of the worker's, and needs no traceback in its log
            Request=request_class,
        )


def answer(task: Task, *, run_id: str, step_id: str) -> None:
    """Answer the doorbell for step ``step_id`` of run ``run_id``."""
    house = runtime.current()
    bell = Doorbell(RunId(UUID(run_id)), StepKey(step_id), next_in_chain(task.request), origin_of(task.request))
    worker = f"{task.request.hostname}:{os.getpid()}"
    try:
        answered = execute(house.context, house.lease_keeper, bell, worker)
        if not (isinstance(answered, Executed) and _is_carried(answered)):
            task.request.chain = None  # only the message whose own attempt succeeded passes its chain on
        _tell_celery(house.context, bell, answered)
    except (StepFailed, TaskPredicate):
        raise
    except Exception as error:  # whatever it was, the step's doorbell or lease brings it back: it has not failed
        log.exception("doorbell_unanswered", run_id=run_id, step_id=step_id)
        raise _retried(f"met {type(error).__name__}") from None


def _tell_celery(context: EngineContext, bell: Doorbell, answered: Refused | Executed) -> None:
    if isinstance(answered, Refused):
        raise _refused(context, bell, answered.refusal)
    if isinstance(answered.settled, ClaimLost):
        raise Ignore("claim_lost")  # whoever took the claim tells monitors
    then = answered.settled.then
    words = then.reason.sentence if then.reason else then.state.value
    match then.state:
        case StepState.SUCCEEDED:
            return
        case StepState.RETRYING | StepState.READY | StepState.HELD:
            raise _retried(words, answered.settled.retry_at)
        case StepState.CANCELLED | StepState.SKIPPED:
            raise ToldAs("task-revoked", {"terminated": True, "signum": None, "expired": False})
        case _:
            raise StepFailed(words)


def _is_carried(executed: Executed) -> bool:
    return isinstance(executed.settled, Settled) and executed.settled.is_carried


def _refused(context: EngineContext, bell: Doorbell, refusal: ClaimRefusal) -> Ignore:
    """Celery said that the step was received and started; say again how it really stands."""
    if refusal is ClaimRefusal.UNKNOWN:
        return ToldAs("task-revoked", {})
    for event in events_of(context, bell.run_id, [bell.key]):
        return ToldAs(event.type, dict(event.fields))
    return Ignore(refusal.value)  # it runs, and its worker tells


def _retried(words: str, retry_at: datetime | None = None) -> Retry:
    return Retry(message=words, exc=StepFailed(words), when=retry_at)
