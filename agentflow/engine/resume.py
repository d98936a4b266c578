"""Resume: let a run go on that rests because a budget was exhausted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from agentflow.domain.budget import BudgetKind
from agentflow.domain.error import InvalidTransition, NotFound
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.shortfall import cap_of, missing, written
from agentflow.engine.context import EngineContext
from agentflow.engine.finalize import finalize
from agentflow.engine.record import ChainHead, Moves, record
from agentflow.storage import runs


@dataclass(frozen=True, slots=True)
class Resumed:
    """The steps that are due again."""

    ready: tuple[StepKey, ...]


def resume_renewed(context: EngineContext, run_id: RunId, actor: str) -> None:
    """Let a run go on if it still rests, and only over budgets of days that are over."""
    with context.database.transaction() as tx:
        run = runs.lock(tx, run_id)
        if run is None or not run.rests or not all(_is_renewed(each, run.at) for each in run.exhausted):
            return
        _resume(context, tx, run, actor)
    context.side_channel.wake()
    finalize(context, run_id, actor)


def _is_renewed(exhausted: Mapping[str, Any], now: datetime) -> bool:
    resets_at = exhausted.get("resets_at")
    return resets_at is not None and datetime.fromisoformat(resets_at) <= now


def resume(context: EngineContext, run_id: RunId, actor: str) -> Resumed:
    """Let a resting run go on. InvalidTransition when it does not rest, or when its own budget still does not do.

    Budgets of the configuration are not asked: the next attempt asks them, and the run rests again if they do not do.
    """
    with context.database.transaction() as tx:
        run = runs.lock(tx, run_id)
        if run is None:
            raise NotFound(f"There is no run {run_id}", run_id=str(run_id))
        if not run.rests:
            raise InvalidTransition(f"Run {run_id} is {run.state} and does not rest", state=run.state)
        _check_budget(tx, run)
        ready = _resume(context, tx, run, actor)
    context.side_channel.wake()
    finalize(context, run_id, actor)  # everything may have ended while it rested
    return Resumed(tuple(ready))


def _resume(context: EngineContext, tx: Connection, run: runs.LockedRun, actor: str) -> list[StepKey]:
    ready = runs.resume(tx, run)
    head = ChainHead(run.run_id, None, run.event_sequence, run.event_head)
    facts = {"exhausted": [dict(each) for each in run.exhausted]}
    record(context, tx, head, at=run.at, actor=actor, action="resume", subject="run", moves=Moves(), facts=facts)
    return ready


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
            raise InvalidTransition(
                f"Run {run.run_id} is still exhausted: of {written(kind, limit)} {kind}, {used} are used and {needed} "
                f"needed. Raise it first: agentflow budget raise {run.run_id} --{kind.replace('_', '-')} +{more}",
                exhausted=dict(each),
            )
