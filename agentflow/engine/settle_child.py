"""Settle child: end the step that waits for a child run, once that has ended.

Whoever ends the child calls it after the commit; the dispatcher calls it for what a crash left. Called twice, the
second time changes nothing.
"""

from __future__ import annotations

from sqlalchemy import Connection

from agentflow.domain.child_run import after_child
from agentflow.domain.ids import RunId
from agentflow.engine.conclude import Concluded, Held, Verdict, conclude
from agentflow.engine.context import EngineContext
from agentflow.storage import child_runs


def settle_child(context: EngineContext, run_id: RunId, actor: str) -> Concluded | None:
    """Conclude the step that waits for ``run_id``; None where none does, or does not yet."""
    with context.database.transaction() as tx:
        parent = child_runs.read_parent(tx, run_id)
    if parent is None or not parent.awaits_end:
        return None

    def decide(tx: Connection, held: Held) -> Verdict | None:
        # An ended child run is taken up again only for a step that waits for a further round; the step is held alone.
        now = child_runs.read_parent(tx, run_id)
        if now is None or now.step_id != held.step.id or not now.awaits_end:
            return None
        facts = {"run": str(run_id), "state": now.child.state.value, "round": now.child.round}
        return Verdict(after_child(now.child), facts)

    return conclude(context, parent.step_id, actor, "settle_child", decide)
