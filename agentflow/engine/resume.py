"""Resume: let a run go on that rests, because it was paused or because a budget was exhausted.

One verb, all or nothing: what a person resumes goes on, or stays as it is. Only the day that renews a budget and the
end of a maintenance lift one thing and leave the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from agentflow.domain.budget import BudgetKind
from agentflow.domain.error import InvalidTransition
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.pause import Pause
from agentflow.domain.shortfall import cap_of, missing, written
from agentflow.engine.context import EngineContext
from agentflow.engine.finalize import finalize
from agentflow.engine.record import ChainHead, Moves, record
from agentflow.storage import installations, runs
from agentflow.storage.retention import missing_run


@dataclass(frozen=True, slots=True)
class Resumed:
    """The steps that are due again."""

    ready: tuple[StepKey, ...]


def resume_renewed(context: EngineContext, run_id: RunId, actor: str) -> None:
    """Let a run go on if it still rests, and only over budgets of days that are over; a pause of it stays.

    Under maintenance nothing begins to go on: a run that is not paused by it yet is left for a later look.
    """
    with context.database.transaction() as tx:
        maintenance = installations.enter(tx)
        run = runs.lock(tx, run_id)
        if run is None or not run.exhausted or not all(_is_renewed(each, run.at) for each in run.exhausted):
            return
        if maintenance is not None and run.paused is None:
            return
        lift(context, tx, run, actor, lifts_pause=False)
    context.side_channel.wake()
    finalize(context, run_id, actor)


def _is_renewed(exhausted: Mapping[str, Any], now: datetime) -> bool:
    resets_at = exhausted.get("resets_at")
    return resets_at is not None and datetime.fromisoformat(resets_at) <= now


def resume(context: EngineContext, run_id: RunId, actor: str) -> Resumed:
    """Let a resting run go on. InvalidTransition when it does not rest, or when its own budget still does not do.

    Then a pause of it stays too. While all is under maintenance no run is resumed alone: InvalidTransition. Budgets of
    the configuration are not asked: the next attempt asks them, and the run rests again if they do not do.
    """
    with context.database.transaction() as tx:
        maintenance = installations.enter(tx)
        run = runs.lock(tx, run_id)
        if run is None:
            raise missing_run(tx, run_id)
        if not run.rests:
            raise InvalidTransition(f"Run {run_id} is {run.state} and does not rest", state=run.state)
        if maintenance is not None:
            raise _under_maintenance(run, maintenance)
        _check_budget(tx, run)
        ready = lift(context, tx, run, actor)
    context.side_channel.wake()
    finalize(context, run_id, actor)  # everything may have ended while it rested
    return Resumed(tuple(ready))


def lift(
    context: EngineContext,
    tx: Connection,
    run: runs.LockedRun,
    actor: str,
    *,
    lifts_pause: bool = True,
    lifts_exhaustion: bool = True,
) -> list[StepKey]:
    """Lift from a run that the caller holds alone what it rests for, or one of both, with one event."""
    ready = runs.resume(tx, run, lifts_pause=lifts_pause, lifts_exhaustion=lifts_exhaustion)
    head = ChainHead(run.run_id, None, run.event_sequence, run.event_head)
    facts: dict[str, Any] = {}
    if run.exhausted and lifts_exhaustion:
        facts["exhausted"] = [dict(each) for each in run.exhausted]
    if run.paused and lifts_pause:
        facts["paused"] = run.paused.as_json()
    record(context, tx, head, at=run.at, actor=actor, action="resume", subject="run", moves=Moves(), facts=facts)
    return ready


def _under_maintenance(run: runs.LockedRun, maintenance: Pause) -> InvalidTransition:
    own = " Its own pause stays then: resume it afterwards." if run.paused and run.paused.scope == "run" else ""
    return InvalidTransition(
        f"Run {run.run_id} cannot be resumed alone: everything is under maintenance by {maintenance.actor}. "
        f"End that first: agentflow resume --all.{own}",
        state=run.state,
        maintenance=maintenance.as_json(),
    )


def _check_budget(tx: Connection, run: runs.LockedRun) -> None:
    caps = runs.read_budget(tx, run.run_id)
    for each in run.exhausted:
        if each["scope"] != f"run:{run.run_id}":
            continue
        kind = BudgetKind(each["budget"])
        limit = cap_of(caps, kind)
        more = missing(each, limit)
        if limit is not None and more is not None:
            used, needed = written(kind, each["used"]), written(kind, each["needed"])
            too = ", and stays paused" if run.paused else ""
            raise InvalidTransition(
                f"Run {run.run_id} is still exhausted{too}: of {written(kind, limit)} {kind}, {used} are used and "
                f"{needed} needed. Raise it first: agentflow budget raise {run.run_id} "
                f"--{kind.replace('_', '-')} +{more}",
                exhausted=dict(each),
            )
