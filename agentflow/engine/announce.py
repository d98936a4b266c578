"""Announce: tell monitors such as Flower how steps stand, where no message of the steps does so. After a commit only.

Owns which of Celery's events says what a step's state means. Celery never takes a task back from SUCCESS, FAILURE or
REVOKED, except through RETRY; so a step that is taken up again, or waits, is announced as retried.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from agentflow.broker import monitor_events
from agentflow.broker.monitor_events import TaskEvent
from agentflow.broker.queues import task_name
from agentflow.domain.error import ServersUnreachable
from agentflow.domain.ids import RunId, StepId, StepKey, step_id
from agentflow.domain.state import FINAL_STEP_STATES, StepState
from agentflow.engine.context import EngineContext
from agentflow.engine.record import Moves
from agentflow.storage import standings
from agentflow.storage.database import ConflictingWrite
from agentflow.telemetry import get_logger

log = get_logger(__name__)

EVENT_TYPES = {
    StepState.SUCCEEDED: "task-succeeded",
    StepState.FAILED: "task-failed",
    StepState.CANCELLED: "task-revoked",
    StepState.SKIPPED: "task-revoked",
    StepState.RETRYING: "task-retried",
    StepState.READY: "task-retried",
    StepState.PENDING: "task-retried",
    StepState.HELD: "task-retried",
}
"""A running step is told of by the worker that runs it."""
WORTH_TELLING = FINAL_STEP_STATES | {StepState.RUNNING}
"""A move from or to one of these changes what monitors show."""


def announce(context: EngineContext, run_id: RunId, moves: Moves, *, told: StepId | None = None) -> None:
    """Tell monitors how the steps stand that a verb ended, rescued or took up again; never fails for it.

    ``told``: a step whose own message tells of it. Of a step that was never attempted they do not know.
    """
    keys = [
        key
        for key, old, new in moves.of_steps()
        if not WORTH_TELLING.isdisjoint((old, new)) and step_id(run_id, key) != told
    ]
    try:
        events = events_of(context, run_id, keys)
        monitor_events.publish(context.celery, [event for event in events if event.hostname])
    except (ServersUnreachable, ConflictingWrite) as error:
        log.warning("monitors_not_told", error=str(error))
    except Exception:  # whatever it is, what is left to do for the run matters more
        log.exception("monitors_not_told")


def events_of(context: EngineContext, run_id: RunId, keys: Iterable[StepKey]) -> list[TaskEvent]:
    """Build the event for each of the steps; none for those that run. The host is that of the last attempt's worker."""
    ids = [step_id(run_id, key) for key in keys]
    if not ids:
        return []
    with context.database.transaction() as tx:
        found = standings.read(tx, ids)
    return [_event(standing) for standing in found if standing.state in EVENT_TYPES]


def _event(standing: standings.Standing) -> TaskEvent:
    hostname, _, _pid = (standing.worker or "").rpartition(":")
    fields: dict[str, Any] = {
        "name": task_name(standing.action),
        "args": "()",
        "kwargs": repr({"step_id": standing.key, "run_id": str(standing.run_id)}),
        "root_id": str(standing.run_id),
        "retries": standing.retries,
    }
    if standing.reason is not None and standing.state is not StepState.SUCCEEDED:
        fields["exception"] = f"StepFailed({standing.reason.sentence!r})"
    return TaskEvent(EVENT_TYPES[standing.state], str(standing.id), hostname, fields)
