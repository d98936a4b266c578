"""Resume: let a run go on that rests because a budget was exhausted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from agentflow.domain.budget import Budget, BudgetKind, usd_of
from agentflow.domain.error import InvalidTransition, NotFound
from agentflow.domain.ids import RunId, StepKey
from agentflow.engine.context import EngineContext
from agentflow.engine.finalize import finalize
from agentflow.engine.record import ChainHead, Moves, record
from agentflow.storage import runs


@dataclass(frozen=True, slots=True)
class Resumed:
    """The steps that are due again."""

    ready: tuple[StepKey, ...]


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
        ready = runs.resume(tx, run)
        head = ChainHead(run_id, None, run.event_sequence, run.event_head)
        facts = {"exhausted": [dict(each) for each in run.exhausted]}
        record(context, tx, head, at=run.at, actor=actor, action="resume", subject="run", moves=Moves(), facts=facts)
    context.side_channel.wake()
    finalize(context, run_id, actor)  # everything may have ended while it rested
    return Resumed(tuple(ready))


def _check_budget(tx: Connection, run: runs.LockedRun) -> None:
    caps = runs.read_budget(tx, run.run_id)
    for each in run.exhausted:
        if each["scope"] != f"run:{run.run_id}":
            continue
        missing = _missing(each, caps)
        if missing is not None:
            option = each["budget"].replace("_", "-")
            raise InvalidTransition(
                f"Run {run.run_id} is still exhausted: of {each['limit']:g} {each['budget']}, {each['used']:g} are "
                f"used and {each['needed']:g} needed. Raise it first: agentflow budget raise {run.run_id} "
                f"--{option} +{missing}",
                exhausted=dict(each),
            )


def _missing(each: Mapping[str, Any], caps: Budget) -> str | None:
    """By how much a cap must be raised at least before the run can go on, as it is written; None if it does."""
    needed = each["used"] + each["needed"]
    match BudgetKind(each["budget"]):
        case BudgetKind.STEPS:
            return _short(caps.steps, needed)
        case BudgetKind.TOKENS:
            return _short(caps.tokens, needed)
        case BudgetKind.USD:
            return _short(None if caps.usd_nano is None else usd_of(caps.usd_nano), needed)
        case BudgetKind.ACTIVE_TIME:  # what is left must be more than nothing
            limit = caps.active_seconds
            return None if limit is None or limit > needed else f"{max(1, round(needed - limit))}s"


def _short(limit: float | None, needed: float) -> str | None:
    return None if limit is None or limit >= needed else f"{round(needed - limit, 9):g}"
