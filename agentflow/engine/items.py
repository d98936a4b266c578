"""Items: the list that a foreach goes through, kept in the content store; rows hold only how many there are.

They may come from what a model returned. A list that stands in the plan is read from there. The file begins with the
places of its items, so that a thousand readers of one item each do not read a thousand lists.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from agentflow.content.store import Address
from agentflow.domain import expression
from agentflow.domain.beginning import Ends, Expands
from agentflow.domain.error import ContentError
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.plan import Foreach
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.state import StepState
from agentflow.domain.stored_json import NotStorable, json_text
from agentflow.engine.context import EngineContext

ITEMS = "items"
"""What the list of a foreach is called among its content."""
_ATTEMPT = 0
"""A foreach has no attempts."""
_PLACE = struct.Struct("<Q")
"""A place in the file, in bytes from the end of the table: where an item begins, and the one before it ends."""


def keep_items(
    context: EngineContext, run_id: RunId, key: StepKey, foreach: Foreach, values: Mapping[str, Any]
) -> Expands | Ends:
    """Evaluate the list of the foreach ``key`` and keep it; a step with no list, or one too long, fails."""
    if not isinstance(foreach.items, str):
        return _expanded(foreach.items, foreach)
    found = expression.evaluate(foreach.items, values)
    if not isinstance(found, list | tuple):
        return no_items(f"it is {_kind(found)}, not a list")
    expanded = _expanded(found, foreach)
    if isinstance(expanded, Expands):
        try:
            packed = _packed(found)
        except NotStorable as problem:
            return no_items(str(problem))
        context.store.put(items_address(run_id, key), packed)
    return expanded


def read_item(context: EngineContext, run_id: RunId, key: StepKey, foreach: Foreach, item: int) -> Any:
    """Read one item of the foreach ``key``. ContentError when it is not there any more."""
    if not isinstance(foreach.items, str):
        return foreach.items[item]
    with context.store.open(items_address(run_id, key)) as file:
        (count,) = _PLACE.unpack(file.read(_PLACE.size))
        if item >= count:
            raise ContentError(f"The list of {key} has no item {item} any more")
        file.seek(_PLACE.size * (1 + item))
        begin, end = (_PLACE.unpack(file.read(_PLACE.size))[0] for _ in range(2))
        file.seek(_PLACE.size * (2 + count) + begin)
        return json.loads(file.read(end - begin))


def no_items(problem: str) -> Ends:
    """How a foreach ends that cannot go through its list; ``problem`` quotes nothing of it."""
    return Ends(StepState.FAILED, Reason(ReasonCode.ITEMS, {"problem": problem}))


def items_address(run_id: RunId, key: StepKey) -> Address:
    """Where the list of the foreach ``key`` lies, unless it stands in the plan."""
    return Address(str(run_id), ITEMS, key, _ATTEMPT)


def _packed(items: Sequence[Any]) -> bytes:
    """The number of the items, where each begins and the last ends, then the items as JSON. Raises NotStorable."""
    texts = [_text(index, item) for index, item in enumerate(items)]
    places = accumulate((len(text) for text in texts), initial=0)
    return b"".join((_PLACE.pack(len(texts)), *map(_PLACE.pack, places), *texts))


def _text(index: int, item: Any) -> bytes:
    try:
        return json_text(item).encode()
    except NotStorable as problem:
        raise NotStorable(f"its item {index} {problem}") from None


def _expanded(items: Sequence[Any], foreach: Foreach) -> Expands | Ends:
    if len(items) > foreach.max_children:
        return no_items(f"it has {len(items)} items, and max_children is {foreach.max_children}")
    return Expands(len(items))


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
