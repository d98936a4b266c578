"""Cancel child: end a child run that nobody waits for any more, since the run above it ends or its step does."""

from __future__ import annotations

from agentflow.domain.error import InvalidTransition
from agentflow.domain.state import RunState
from agentflow.engine.cancel import cancel
from agentflow.engine.context import EngineContext
from agentflow.storage.child_runs import Forsaken


def cancel_child(context: EngineContext, child: Forsaken, actor: str, *, tells_parent: bool = True) -> None:
    """Cancel a forsaken child run, in the name of who cancelled the run above, or else of that run.

    ``tells_parent``: not where the run above cancels all of them and looks at itself afterwards.
    """
    reason = child.parent_reason
    is_asked = child.parent_state is RunState.CANCELLING and reason is not None
    by = str(reason.detail.get("actor", actor)) if is_asked and reason is not None else f"run:{child.parent_run}"
    try:
        cancel(context, child.run_id, by, tells_parent=tells_parent)
    except InvalidTransition:  # it ended meanwhile
        return
