"""Tend children: what the dispatcher does between runs: it starts child runs, and does what a crash left undone.

Each deed is a verb that looks again under the locks; finding it twice does no harm.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from functools import partial
from uuid import UUID

from agentflow.domain.error import ServersUnreachable
from agentflow.domain.ids import StepId
from agentflow.engine.cancel_child import cancel_child
from agentflow.engine.context import EngineContext
from agentflow.engine.pause import pause_child
from agentflow.engine.resume import resume_child
from agentflow.engine.settle_child import settle_child
from agentflow.engine.start_child import start_child
from agentflow.storage import child_runs

Deed = Callable[[], object]
STARTS = 50
"""How many child runs one pass starts, since each is a submission; the next pass follows at once."""
AGAIN_SECONDS = 5.0
"""When a child run is tried again that could not be started: others have their turn before."""


def find_child_work(context: EngineContext, actor: str, limit: int, *, is_sweep: bool) -> Iterator[tuple[UUID, Deed]]:
    """Find what is to be done, each with the step or the run that it is about; ``is_sweep``: also what a crash left."""
    with context.database.transaction() as tx:
        due = child_runs.find_due(tx, STARTS)
    for step_id in due:
        yield step_id, partial(_start, context, step_id, actor)
    if len(due) == STARTS:
        _wake_for_others(context, due)
    if not is_sweep:
        return
    with context.database.transaction() as tx:
        ended = child_runs.find_ended(tx, limit)
        forsaken = child_runs.find_forsaken(tx, limit)
        unlike = child_runs.find_unlike(tx, limit)
    for run_id in ended:
        yield run_id, partial(settle_child, context, run_id, actor)
    for child in forsaken:
        yield child.run_id, partial(cancel_child, context, child, actor)
    for run_id, is_to_pause in unlike:
        yield run_id, partial(pause_child if is_to_pause else resume_child, context, run_id, actor)


def _start(context: EngineContext, step_id: StepId, actor: str) -> None:
    """Start a child run; one that cannot be started now holds up no others, and is tried again."""
    try:
        start_child(context, step_id, actor)
    except ServersUnreachable:
        raise
    except Exception:
        with context.database.transaction() as tx:
            child_runs.postpone(tx, step_id, AGAIN_SECONDS)
        raise


def _wake_for_others(context: EngineContext, done: Collection[StepId]) -> None:
    """Let the next pass follow at once where others are due; not for those of this one alone, for it got nowhere."""
    with context.database.transaction() as tx:
        due = child_runs.find_due(tx, STARTS)
    if not set(due) <= set(done):
        context.side_channel.wake()
