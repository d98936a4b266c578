"""Resume: let a run go on that rests, because it was paused or because a budget was exhausted.

One verb, all or nothing: what a person resumes goes on, or stays as it is. Only the day that renews a budget and the
end of a maintenance lift one thing and leave the other. Child runs go on with the run above them: those that were
paused with it, and those that rest over budgets which do now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from agentflow.domain.budget import BudgetKind
from agentflow.domain.error import InvalidTransition
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.pause import Pause, PauseScope
from agentflow.domain.shortfall import cap_of, missing, written
from agentflow.domain.state import standing
from agentflow.engine.context import EngineContext
from agentflow.engine.finalize import finalize
from agentflow.engine.record import ChainHead, Moves, record
from agentflow.engine.start_guard import lock_parent
from agentflow.storage import child_runs, installations, runs
from agentflow.storage.database import ConflictingWrite
from agentflow.storage.retention import missing_run
from agentflow.telemetry import get_logger

log = get_logger(__name__)


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
    """Let a resting run go on, and what rests below it.

    InvalidTransition when neither rests, or when its own budget, or that of a run above it, still does not do;
    then a pause of it stays too. While all is under maintenance no run is resumed alone: InvalidTransition. Budgets of
    the configuration are not asked: the next attempt asks them, and the run rests again if they do not do.
    """
    with context.database.transaction() as tx:
        maintenance = installations.enter(tx)
        run = runs.lock(tx, run_id)
        if run is None:
            raise missing_run(tx, run_id)
        if maintenance is not None and run.rests:
            raise _under_maintenance(run, maintenance)
        _check_parent(tx, run)
        _check_budget(tx, run)
        ready = lift(context, tx, run, actor) if run.rests else []
    try:
        below = resume_below(context, run_id, actor)
    except ConflictingWrite as error:
        if not run.rests:
            raise
        log.warning("child_runs_left_to_dispatcher", run_id=str(run_id), error=str(error))
        below = 0
    if not (run.rests or below):
        raise InvalidTransition(f"Run {run_id} {standing(run.state)} and does not rest", state=run.state)
    context.side_channel.wake()
    finalize(context, run_id, actor)  # everything may have ended while it rested
    return Resumed(tuple(ready))


def resume_below(context: EngineContext, run_id: RunId, actor: str) -> int:
    """Let the child runs of a run go on that rest on its account, and theirs; returns how many do now."""
    with context.database.transaction() as tx:
        below = child_runs.find_open(tx, run_id)
    return sum(resume_child(context, child, actor) for child in below)


def resume_child(context: EngineContext, run_id: RunId, actor: str) -> int:
    """Let a child run go on, and what is below it, unless the run above rests or somebody paused it by itself."""
    with context.database.transaction() as tx:
        maintenance = installations.enter(tx)
        parent = lock_parent(tx, run_id)
        above = runs.lock(tx, parent.run_id, is_shared=True) if parent else None
        run = runs.lock(tx, run_id)
        if maintenance is not None or above is None or above.rests or run is None:
            return 0
        is_own = run.paused is not None and run.paused.scope is not PauseScope.PARENT
        lifts = run.rests and not is_own
        lifts_exhaustion = not any(_shortfall(tx, each) for each in run.exhausted)
        if lifts and (run.paused is not None or lifts_exhaustion):
            lift(context, tx, run, actor, lifts_exhaustion=lifts_exhaustion)
        else:
            lifts = False
    if lifts:
        context.side_channel.wake()
        finalize(context, run_id, actor)
    return lifts + (0 if is_own else resume_below(context, run_id, actor))


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


def _check_parent(tx: Connection, run: runs.LockedRun) -> None:
    """Refuse to let a child run go on alone that was paused with the run above it: it would be paused again."""
    if run.paused is None or run.paused.scope is not PauseScope.PARENT:
        return
    parent = child_runs.read_parent(tx, run.run_id)
    if parent is not None and parent.is_paused:
        raise InvalidTransition(
            f"Run {run.run_id} was paused with the run that it is a child of, and goes on with that: "
            f"agentflow resume {parent.run_id}",
            state=run.state,
            parent=str(parent.run_id),
        )


@dataclass(frozen=True, slots=True)
class _Shortfall:
    """A budget of a run that still does not do: whose, of what kind, how much there is and how much is missing."""

    owner: str
    kind: BudgetKind
    limit: float
    more: str


def _shortfall(tx: Connection, exhausted: Mapping[str, Any]) -> _Shortfall | None:
    """What is still missing of a budget of a run; None where it does now, and for those of the configuration."""
    what, _, owner = str(exhausted["scope"]).partition(":")
    if what != "run":
        return None
    kind = BudgetKind(exhausted["budget"])
    limit = cap_of(runs.read_budget(tx, RunId(UUID(owner))), kind)
    more = missing(exhausted, limit)
    return None if limit is None or more is None else _Shortfall(owner, kind, limit, str(more))


def _check_budget(tx: Connection, run: runs.LockedRun) -> None:
    for each in run.exhausted:
        short = _shortfall(tx, each)
        if short is None:
            continue
        kind = short.kind
        used, needed = written(kind, each["used"]), written(kind, each["needed"])
        too = ", and stays paused" if run.paused else ""
        whose = "" if short.owner == str(run.run_id) else f" by the budget of run {short.owner} above it"
        raise InvalidTransition(
            f"Run {run.run_id} is still exhausted{whose}{too}: of {written(kind, short.limit)} {kind}, {used} are used "
            f"and {needed} needed. Raise it first: agentflow budget raise {short.owner} "
            f"--{kind.replace('_', '-')} +{short.more}",
            exhausted=dict(each),
        )
