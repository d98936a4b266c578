"""From a straight stretch of steps to a Celery chain of immutable signatures that hold ids only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from celery import Celery, Signature, chain

from agentflow.broker.queues import task_name
from agentflow.domain.ids import RunId, StepId, StepKey
from agentflow.telemetry.spans import HEADER


@dataclass(frozen=True, slots=True)
class Bell:
    """One step as a message names it; ``retries`` is only shown by monitors."""

    run_id: RunId
    step_id: StepId
    key: StepKey
    action: str
    queue: str
    retries: int = 0


def signature(app: Celery, bell: Bell, origin: str | None = None) -> Signature:
    """Build the immutable signature for one step; the task's id is the step's own, stable over attempts.

    ``origin``: the traceparent that the message carries.
    """
    kwargs = {"step_id": bell.key, "run_id": str(bell.run_id)}  # Flower's list cuts off what stands behind
    options = {"queue": bell.queue, "task_id": str(bell.step_id), "retries": bell.retries}
    built: Signature = app.signature(
        task_name(bell.action),
        kwargs=kwargs,
        immutable=True,
        options=options if origin is None else {**options, "headers": {HEADER: origin}},
    )
    return built


def stretch(app: Celery, bells: Sequence[Bell], origin: str | None = None) -> Signature:
    """Build the chain for a straight stretch of one run; a stretch of one is a plain signature."""
    signatures = [signature(app, bell, origin) for bell in bells]
    return signatures[0] if len(signatures) == 1 else chain(*signatures, app=app)


def next_in_chain(request: Any) -> StepId | None:
    """Return the step that the message being handled will pass its chain on to, if it succeeds."""
    rest = request.chain
    if not rest:
        return None
    return StepId(UUID(rest[-1]["options"]["task_id"]))


def origin_of(request: Any) -> str | None:
    """Return the traceparent of the message being handled, which whoever traces Celery may have written anew."""
    return getattr(request, HEADER, None)
