"""What the items of a foreach make of it, and what the steps of a body make of their item."""

from __future__ import annotations

from agentflow.domain.beginning import Ends
from agentflow.domain.plan import Step
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.state import StepState
from agentflow.domain.transition import NeedsMet


def after_items(step: Step, items: int, ended: NeedsMet) -> Ends:
    """Decide how a foreach ends whose items all have; an item whose way was not taken does not count.

    It was cancelled where nothing failed but items were cancelled: nobody says that it failed.
    """
    mode = "fail_on_any" if step.foreach is None else step.foreach.merge
    failed = ended.broken
    if not failed:
        return Ends(StepState.SUCCEEDED)
    reason = Reason(ReasonCode.ITEMS_FAILED, {"failed": failed, "items": items})
    if mode == "fail_on_any" or (mode == "partial" and not ended.succeeded):
        return Ends(_broken_state(ended), reason)
    return Ends(StepState.SUCCEEDED, reason if mode == "partial" else None)


def after_body(ended: NeedsMet) -> Ends:
    """Decide how an item ends whose body has: as its last steps did."""
    if ended.broken:
        state = _broken_state(ended)
        code = ReasonCode.NEED_FAILED if state is StepState.FAILED else ReasonCode.NEED_CANCELLED
        return Ends(state, Reason(code))
    if not ended.succeeded:
        return Ends(StepState.SKIPPED, Reason(ReasonCode.NOT_TAKEN))
    return Ends(StepState.SUCCEEDED)


def _broken_state(ended: NeedsMet) -> StepState:
    return StepState.CANCELLED if ended.cancelled and not ended.failed else StepState.FAILED
