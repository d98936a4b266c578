"""Remote control: a revoke or terminate, from Flower or ``celery control``, cancels the step it names.

Celery's own revoke would live in the workers' memory only, and would swallow the same task id when the step is
retried. The worker's main process only leaves a report; the dispatcher cancels, audited. Owns also what a worker tells
monitors of a message beyond Celery's own events.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

from billiard.einfo import ExceptionWithTraceback
from billiard.exceptions import WorkerLostError
from celery.utils.functional import maybe_list
from celery.worker import state
from celery.worker.control import Panel
from celery.worker.request import Request

from agentflow import runtime
from agentflow.tasks import ToldAs

ACTOR = "celery-control"


def install() -> None:
    """Replace Celery's revoke and terminate by cancelling."""
    Panel.data["revoke"] = revoke
    Panel.data["terminate"] = terminate


def revoke(state: Any, task_id: Any, terminate: bool = False, signal: Any = None, **_: Any) -> dict[str, str]:
    """Ask the dispatcher to cancel the steps that these tasks stand for."""
    accepted = [each for each in maybe_list(task_id) or [] if _is_uuid(each)]
    for each in accepted:
        runtime.current().context.side_channel.report({"kind": "revoked", "task_id": each, "actor": ACTOR})
    return {"ok": f"cancelling {len(accepted)} steps"}


def terminate(state: Any, signal: Any, task_id: Any, **_: Any) -> dict[str, str]:
    """The same as revoke: a cancel ends the command and everything it started, whatever the signal asked for."""
    return revoke(state, task_id)


def _is_uuid(text: object) -> bool:
    try:
        UUID(str(text))
    except ValueError:
        return False
    return True


class StepRequest(Request):
    """A message being handled: tells monitors what the task said, and the dispatcher when its pool child died."""

    def on_failure(self, exc_info: Any, send_failed_event: bool = True, return_ok: bool = False) -> Any:
        """Tell of what was refused or cancelled, and of a lost child; then what Celery does."""
        error = exc_info.exception
        if isinstance(error, ExceptionWithTraceback):
            error = error.exc
        if isinstance(error, ToldAs):
            event, fields = error.args
            self.send_event(event, **fields)
        elif isinstance(error, WorkerLostError):
            # Not failed: its dispatcher decides, and announces it if the step is over.
            self.send_event("task-retried", exception="StepFailed('lost its worker')")
            send_failed_event = False
            worker = f"{self.hostname}:{self.worker_pid}"
            report = {"kind": "child_lost", "task_id": self.id, "worker": worker}
            # A stop that reaches the whole process group ends the children: then no step is to blame.
            report |= {"is_stopping": state.should_stop is not None or state.should_terminate is not None}
            runtime.current().context.side_channel.report(report)
        return super().on_failure(exc_info, send_failed_event, return_ok)
