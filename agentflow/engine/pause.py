"""Pause: let a run rest until somebody resumes it, softly or hard. Softly what runs finishes; hard it is given back.

Nothing of a paused run is claimed or sent, from the commit on. What runs settles as ever, and its successors wait. Hard
is a row first: each attempt is asked to yield, and hears it at once through Redis or with its next heartbeat. Child
runs rest with the run above them, and go on with it, unless somebody paused them by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from agentflow.broker.bells import StopKind
from agentflow.domain.error import InvalidTransition
from agentflow.domain.ids import AttemptId, RunId
from agentflow.domain.pause import Pause, PauseScope, paused_by
from agentflow.domain.state import RunState, standing
from agentflow.engine.context import EngineContext
from agentflow.engine.record import ChainHead, Moves, record
from agentflow.engine.start_guard import lock_parent
from agentflow.storage import attempts, child_runs, runs
from agentflow.storage.database import ConflictingWrite
from agentflow.storage.retention import missing_run
from agentflow.telemetry import get_logger

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class PauseAsked:
    """What a pause did: whether anything changed, and how many attempts still run, of the run and of those below it."""

    is_new: bool
    running: int


def pause(
    context: EngineContext, run_id: RunId, actor: str, *, why: str | None = None, is_hard: bool = False
) -> PauseAsked:
    """Let a run rest. InvalidTransition when it ends or has ended; a paused one can only be hardened.

    A run that a maintenance paused becomes the actor's own: it rests on when the maintenance is over.
    """
    with context.database.transaction() as tx:
        run = runs.lock(tx, run_id)
        if run is None:
            raise missing_run(tx, run_id)
        if run.state is not RunState.RUNNING:
            raise InvalidTransition(f"Run {run_id} {standing(run.state)} and cannot be paused", state=run.state)
        done = pause_locked(context, tx, run, Pause(actor, why, run.at, is_hard, PauseScope.RUN), actor)
    tell(context, done.yielding)
    try:
        pause_below(context, run_id, actor)
    except ConflictingWrite as error:
        log.warning("child_runs_left_to_dispatcher", run_id=str(run_id), error=str(error))
    return PauseAsked(done.is_new, done.running)


def pause_below(context: EngineContext, run_id: RunId, actor: str) -> None:
    """Let the child runs of a paused run rest, one transaction each; what a crash leaves the dispatcher finds."""
    with context.database.transaction() as tx:
        below = child_runs.find_open(tx, run_id)
    for child in below:
        pause_child(context, child, actor)


def pause_child(context: EngineContext, run_id: RunId, actor: str) -> None:
    """Let a child run rest, and what is below it, since the run above it was paused; and as hard as that."""
    with context.database.transaction() as tx:
        parent = lock_parent(tx, run_id)
        above = runs.lock(tx, parent.run_id, is_shared=True) if parent else None
        run = runs.lock(tx, run_id)
        if above is None or above.paused is None or run is None or run.state is not RunState.RUNNING:
            return
        if above.paused.scope is PauseScope.MAINTENANCE:  # it pauses every run itself
            return
        asked = replace(above.paused, at=run.at, scope=PauseScope.PARENT)
        done = pause_locked(context, tx, run, asked, actor)
    tell(context, done.yielding)
    pause_below(context, run_id, actor)


@dataclass(frozen=True, slots=True)
class Done:
    """What a pause did to a locked run, and which attempts are to be told of it after the commit."""

    is_new: bool
    running: int
    yielding: Sequence[AttemptId]


def pause_locked(context: EngineContext, tx: Connection, run: runs.LockedRun, asked: Pause, actor: str) -> Done:
    """Pause a running run that the caller holds alone, with one event if that changes anything."""
    standing = paused_by(run.paused, asked)
    yielding = attempts.request_yield(tx, run.run_id) if asked.is_hard else []
    running = attempts.count_running(tx, run.run_id)
    if standing == run.paused:
        return Done(is_new=False, running=running, yielding=yielding)
    runs.pause(tx, run, standing)
    head = ChainHead(run.run_id, None, run.event_sequence, run.event_head)
    facts = {"is_hard": asked.is_hard, "running": running}
    record(
        context,
        tx,
        head,
        at=run.at,
        actor=actor,
        action="pause",
        subject="run",
        moves=Moves(),
        reason=asked.reason,
        facts=facts,
    )
    return Done(is_new=True, running=running, yielding=yielding)


def tell(context: EngineContext, yielding: Sequence[AttemptId]) -> None:
    """Tell the workers to give attempts back. After the commit; who does not hear it reads it in the rows."""
    if yielding:
        context.side_channel.stop_attempts(yielding, StopKind.YIELD)
