"""Items: the list that a foreach goes through, kept in the content store; rows hold only how many there are.

They may come from what a model returned. A list that stands in the plan is read from there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from agentflow.content.store import Address
from agentflow.domain import expression
from agentflow.domain.beginning import Ends, Expands
from agentflow.domain.error import ContentError
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.plan import Foreach
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.state import StepState
from agentflow.engine.context import EngineContext

ITEMS = "items"
"""What the list of a foreach is called among its content."""
_ATTEMPT = 0
"""A foreach has no attempts."""


def keep_items(
    context: EngineContext, run_id: RunId, key: StepKey, foreach: Foreach, values: Mapping[str, Any]
) -> Expands | Ends:
    """Evaluate the list of the foreach ``key`` and keep it; a step with no list, or one too long, fails."""
    if not isinstance(foreach.items, str):
        return _expanded(foreach.items, foreach)
    found = expression.evaluate(foreach.items, values)
    if not isinstance(found, list | tuple):
        return _failed(f"it is {_kind(found)}, not a list")
    expanded = _expanded(found, foreach)
    if isinstance(expanded, Expands):
        context.store.put(_address(run_id, key), json.dumps(list(found), ensure_ascii=False).encode())
    return expanded


def read_item(context: EngineContext, run_id: RunId, key: StepKey, foreach: Foreach, item: int) -> Any:
    """Read one item of the foreach ``key``. ContentError when it is not there any more."""
    if not isinstance(foreach.items, str):
        return foreach.items[item]
    with context.store.open(_address(run_id, key)) as file:
        found = json.load(file)
    if item >= len(found):
        raise ContentError(f"The list of {key} has no item {item} any more")
    return found[item]


def _expanded(items: Sequence[Any], foreach: Foreach) -> Expands | Ends:
    if len(items) > foreach.max_children:
        return _failed(f"it has {len(items)} items, and max_children is {foreach.max_children}")
    return Expands(len(items))


def _failed(problem: str) -> Ends:
    return Ends(StepState.FAILED, Reason(ReasonCode.ITEMS, {"problem": problem}))


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case str():
            return "text"
        case Mapping():
            return "an object"
        case _:
            return "a single value"


def _address(run_id: RunId, key: StepKey) -> Address:
    return Address(str(run_id), ITEMS, key, _ATTEMPT)
