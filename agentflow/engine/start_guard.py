"""Start guard: that a child run begins, or goes on, only while the step above it waits for it. Inside a transaction.

The run above is locked before the child, shared: whoever cancels, fails or pauses it takes it alone, and then sees the
child or is seen here.
"""

from __future__ import annotations

from sqlalchemy import Connection

from agentflow.domain.error import InvalidTransition
from agentflow.domain.ids import RunId
from agentflow.domain.state import FINAL_RUN_STATES, RunState
from agentflow.storage import child_runs, runs
from agentflow.storage.child_runs import Parent, Parentage


class ParentGone(Exception):
    """The step above does not wait for this child run any more: none is made."""


class ParentRests(Exception):
    """The run above rests: nothing of it is started before it goes on."""


def hold_parent(tx: Connection, parentage: Parentage) -> None:
    """Keep the run above as it is until the child is there. Raises ParentGone and ParentRests."""
    parent = runs.lock(tx, parentage.parent_run, is_shared=True)
    if parent is None or parent.state is not RunState.RUNNING:
        raise ParentGone
    if parent.rests:
        raise ParentRests
    if not child_runs.take_waiting(tx, parentage.step_id, parentage.run_id):
        raise ParentGone


def lock_parent(tx: Connection, run_id: RunId) -> Parent | None:
    """Keep the run above a child run as it is, before the child is locked; None for a run that is no child."""
    parent = child_runs.read_parent(tx, run_id)
    if parent is None:
        return None
    runs.lock(tx, parent.run_id, is_shared=True)
    return child_runs.read_parent(tx, run_id)


def check_awaited(parent: Parent | None, run: runs.LockedRun) -> None:
    """Refuse to take up an ended child run that nothing waits for: its run would go on without it."""
    if parent is None or run.state not in FINAL_RUN_STATES:
        return
    awaited = parent.awaited
    if awaited is not None and awaited.run_id == run.run_id and awaited.round > run.round:
        return
    raise InvalidTransition(
        f"Run {run.run_id} is a child run that has ended ({run.state}); it is taken up again with what started it: "
        f"agentflow retry {parent.run_id} --step {parent.step}",
        state=run.state,
        parent=str(parent.run_id),
        step=parent.step,
    )
