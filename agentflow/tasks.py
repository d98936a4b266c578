"""The Celery tasks: one a kind of action, ids only. Each answers one doorbell and tells Celery the truth about it."""

from __future__ import annotations

import os
from typing import Any, NoReturn
from uuid import UUID

from celery import Celery, Task
from celery.exceptions import Ignore, Retry

from agentflow import runtime
from agentflow.broker.canvas import next_in_chain
from agentflow.broker.queues import task_name
from agentflow.domain.error import ServersUnreachable
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.outcome import ClaimRefusal
from agentflow.domain.state import StepState
from agentflow.engine.execute import Doorbell, Executed, Refused, execute
from agentflow.engine.settle import ClaimLost, Settled


class StepFailed(Exception):
    """What a monitor is shown of a failed step: the reason's words, never output."""


def register(app: Celery, actions: tuple[str, ...], *, request_class: str = "celery.worker.request:Request") -> None:
    """Register a task for each action; ``request_class`` names what a worker makes of its messages."""
    for action in actions:
        app.task(answer, name=task_name(action), bind=True, ignore_result=True, shared=False, Request=request_class)


def answer(task: Task, *, run_id: str, step_id: str) -> None:
    """Answer the doorbell for step ``step_id`` of run ``run_id``."""
    house = runtime.current()
    bell = Doorbell(RunId(UUID(run_id)), StepKey(step_id), next_in_chain(task.request))
    worker = f"{task.request.hostname}:{os.getpid()}"
    try:
        answered = execute(house.context, house.lease_keeper, bell, worker)
    except ServersUnreachable as error:
        raise Retry(message="Postgres does not answer", exc=StepFailed(error.code)) from None
    if not (isinstance(answered, Executed) and isinstance(answered.settled, Settled) and answered.settled.is_carried):
        task.request.chain = None  # only the message whose own attempt succeeded passes its chain on
    _tell_celery(task, answered)


def _tell_celery(task: Task, answered: Refused | Executed) -> None:
    if isinstance(answered, Refused):
        if answered.refusal is ClaimRefusal.STEP_CANCELLED:
            _revoked(task)
        raise Ignore(answered.refusal.value)
    if isinstance(answered.settled, ClaimLost):
        raise Ignore("claim_lost")
    then = answered.settled.then
    words = then.reason.sentence if then.reason else then.state.value
    match then.state:
        case StepState.SUCCEEDED:
            return
        case StepState.RETRYING | StepState.READY | StepState.HELD:
            raise Retry(message=words, exc=StepFailed(words), when=answered.settled.retry_at)
        case StepState.CANCELLED:
            _revoked(task)
        case _:
            raise StepFailed(words)


def _revoked(task: Task) -> NoReturn:
    details: dict[str, Any] = {"terminated": True, "signum": None, "expired": False}
    task.send_event("task-revoked", **details)
    raise Ignore("cancelled")
