"""Raise budget: give a run more than it was submitted with. A cap is never lowered and never taken away."""

from __future__ import annotations

from pydantic import ValidationError
from sqlalchemy import Connection

from agentflow.domain.budget import MAX_TOKENS, MAX_USD, Budget
from agentflow.domain.error import InvalidTransition, UsageError
from agentflow.domain.ids import RunId
from agentflow.domain.state import FINAL_RUN_STATES
from agentflow.engine.context import EngineContext
from agentflow.engine.record import ChainHead, Moves, record
from agentflow.storage import runs
from agentflow.storage.retention import missing_run


def raise_budget(context: EngineContext, run_id: RunId, more: Budget, actor: str) -> Budget:
    """Add ``more`` to the caps of a run and return what they are now; a resting run still has to be resumed.

    UsageError for a kind that the run does not cap, InvalidTransition for a run that has ended.
    """
    with context.database.transaction() as tx:
        run = runs.lock(tx, run_id)
        if run is None:
            raise missing_run(tx, run_id)
        raised, facts = raise_locked(tx, run, more)
        head = ChainHead(run_id, None, run.event_sequence, run.event_head)
        moves = Moves()
        record(
            context, tx, head, at=run.at, actor=actor, action="raise_budget", subject="run", moves=moves, facts=facts
        )
    return raised


def raise_locked(tx: Connection, run: runs.LockedRun, more: Budget) -> tuple[Budget, dict[str, list[float | None]]]:
    """Raise the caps of a run that the caller holds alone; returns them as they are now, and old and new by kind.

    Raises as ``raise_budget`` does.
    """
    if run.state in FINAL_RUN_STATES:
        raise InvalidTransition(f"Run {run.run_id} has ended ({run.state}): retry it first", state=run.state)
    caps = runs.read_budget(tx, run.run_id)
    raised = _sum(run.run_id, caps, more)
    if not runs.raise_budget(tx, run, raised):
        raise UsageError(f"The budget of run {run.run_id} can only be raised", run_id=str(run.run_id))
    before, after = caps.model_dump(), raised.model_dump()
    return raised, {name: [before[name], after[name]] for name in after if before[name] != after[name]}


def _sum(run_id: RunId, caps: Budget, more: Budget) -> Budget:
    raised = caps.model_dump()
    wanted = {name: value for name, value in more.model_dump().items() if value is not None}
    if not wanted:
        raise UsageError("Say by how much: --steps, --tokens, --usd or --active-time")
    uncapped = [name for name in wanted if raised[name] is None]
    if uncapped:
        words = ", ".join(name.removesuffix("_nano").replace("active_seconds", "active_time") for name in uncapped)
        raise UsageError(f"Run {run_id} has no budget of {words}: there is nothing to raise", run_id=str(run_id))
    try:
        return Budget.model_validate(raised | {name: raised[name] + value for name, value in wanted.items()})
    except ValidationError:
        raise UsageError(
            f"The budget of run {run_id} would be larger than a budget can be: {MAX_TOKENS:,} steps or tokens, "
            f"{MAX_USD:,} usd"
        ) from None
