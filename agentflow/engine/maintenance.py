"""Maintenance: pause everything, and let all of it go on again.

The flag on the installation comes first, alone with everybody who lets a run start; from its commit on no run starts.
Then the runs, one transaction each, through the same verb as any pause. Whoever is killed on the way is continued by
the dispatcher, or by calling again; two that work against each other are told apart by the flag, which each run's
transaction looks at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Connection

from agentflow.domain.ids import RunId
from agentflow.domain.pause import Pause, PauseScope, paused_by
from agentflow.domain.state import RunState
from agentflow.engine.context import EngineContext
from agentflow.engine.pause import pause_locked, tell
from agentflow.engine.record import record_outside
from agentflow.engine.resume import lift
from agentflow.storage import attempts, installations, runs
from agentflow.storage.database import ConflictingWrite
from agentflow.telemetry import get_logger

log = get_logger(__name__)

BATCH = 500
WAKE_EVERY = 50
"""After so many resumed runs the dispatcher is woken, so that the first need not wait for the last."""
TRIES = 5
"""How often a run is tried whose transaction Postgres ends for the sake of another."""


@dataclass(frozen=True, slots=True)
class MaintenanceBegun:
    """What a pause of everything did: whether it is new, how many runs it paused, how many attempts still run."""

    is_new: bool
    paused: int
    running: int


@dataclass(frozen=True, slots=True)
class MaintenanceEnded:
    """What the end of a maintenance did: whether one stood, and how many runs go on."""

    is_new: bool
    resumed: int


def pause_all(context: EngineContext, actor: str, *, why: str | None = None, is_hard: bool = False) -> MaintenanceBegun:
    """Put the installation under maintenance and pause every run that goes on.

    Runs that are submitted or retried meanwhile rest from their first moment. A run that a person paused stays that
    person's; only a hard maintenance hardens it, so that nothing runs in the end.
    """
    with context.database.transaction() as tx:
        house = installations.close(tx)
        asked = Pause(actor, why, house.at, is_hard, PauseScope.MAINTENANCE)
        standing = paused_by(house.maintenance, asked)
        is_new = standing != house.maintenance
        if is_new:
            installations.set_maintenance(tx, standing)
            _record(context, tx, house, "pause_all", asked, actor)
    unpaused = _each(context, lambda tx, after: runs.find_unpaused(tx, after, BATCH, is_hard=standing.is_hard))
    paused = sum(_surely(_pause_run, context, run_id, actor) for run_id in unpaused)
    with context.database.transaction() as tx:
        return MaintenanceBegun(is_new, paused, attempts.count_running(tx))


def resume_all(context: EngineContext, actor: str) -> MaintenanceEnded:
    """End the maintenance, and let every run go on that it paused. What rests for another reason rests on."""
    with context.database.transaction() as tx:
        house = installations.close(tx)
        if house.maintenance is not None:
            installations.set_maintenance(tx, None)
            _record(context, tx, house, "resume_all", house.maintenance, actor)
    resumed = 0
    for run_id in _each(context, lambda tx, after: runs.find_maintained(tx, after, BATCH)):
        resumed += _surely(_resume_run, context, run_id, actor)
        if resumed % WAKE_EVERY == 1:
            context.side_channel.wake()
    context.side_channel.wake()
    return MaintenanceEnded(house.maintenance is not None, resumed)


def finish(context: EngineContext, actor: str) -> int:
    """Finish what a broken-off ``pause_all`` or ``resume_all`` left, a batch of it; returns how many runs changed."""
    with context.database.transaction() as tx:
        maintenance = installations.read_maintenance(tx)
        if maintenance is None:
            left, verb = runs.find_maintained(tx, None, BATCH), _resume_run
        else:
            left, verb = runs.find_unpaused(tx, None, BATCH, is_hard=maintenance.is_hard), _pause_run
    changed = sum(verb(context, run_id, actor) for run_id in left)
    if changed:
        context.side_channel.wake()
    return changed


def _record(
    context: EngineContext,
    tx: Connection,
    house: installations.LockedInstallation,
    action: str,
    pause: Pause,
    actor: str,
) -> None:
    facts: dict[str, Any] = {"is_hard": pause.is_hard}
    record_outside(
        context, tx, house, actor=actor, action=action, subject="installation", reason=pause.reason, facts=facts
    )


def _each(context: EngineContext, find: Callable[[Connection, RunId | None], list[RunId]]) -> Iterator[RunId]:
    """Yield what ``find`` finds, a batch at a time. What is missed by one pass cannot be: nothing comes to be found."""
    after: RunId | None = None
    while True:
        with context.database.transaction() as tx:
            found = find(tx, after)
        yield from found
        if len(found) < BATCH:
            return
        after = found[-1]


def _pause_run(context: EngineContext, run_id: RunId, actor: str) -> bool:
    with context.database.transaction() as tx:
        maintenance = installations.enter(tx)
        run = runs.lock(tx, run_id) if maintenance else None
        if maintenance is None or run is None or run.state is not RunState.RUNNING:
            return False
        done = pause_locked(context, tx, run, replace(maintenance, at=run.at), actor)
    tell(context, done.yielding)
    return done.is_new


def _resume_run(context: EngineContext, run_id: RunId, actor: str) -> bool:
    """Lift the pause only. The dispatcher ends a run of which everything ended while it rested."""
    with context.database.transaction() as tx:
        maintenance = installations.enter(tx)
        run = runs.lock(tx, run_id) if maintenance is None else None
        if run is None or run.paused is None or run.paused.scope is not PauseScope.MAINTENANCE:
            return False
        lift(context, tx, run, actor, lifts_exhaustion=False)
    return True


def _surely(
    verb: Callable[[EngineContext, RunId, str], bool], context: EngineContext, run_id: RunId, actor: str
) -> bool:
    for _ in range(TRIES - 1):
        try:
            return verb(context, run_id, actor)
        except ConflictingWrite as error:
            log.info("run_tried_again", run_id=str(run_id), error=str(error))
    return verb(context, run_id, actor)
