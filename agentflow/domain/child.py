"""The names of steps that a foreach makes at run time, and which steps see each other.

``fetch`` is a foreach, ``fetch[3]`` its fourth item, ``fetch[3].parse`` a step of that item's body; a foreach inside
of a body is ``fetch[3].pages``, its items ``fetch[3].pages[0]``. Ids are unique in the whole plan, so the last id of a
name says which step of the plan it is made from. Owns the names only; rows are made by engine/expand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from agentflow.domain.ids import StepKey

MAX_DEPTH = 4
"""How deep foreachs may nest."""
_PART = re.compile(r"(?P<id>[A-Za-z_][A-Za-z0-9_-]*)(\[(?P<item>\d+)\])?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Loop:
    """One foreach around a step: its id in the plan, the name of its own row, and the item that the step belongs to."""

    id: StepKey
    key: StepKey
    item: int


def plan_id(key: StepKey) -> StepKey:
    """Return the id of the step of the plan that ``key`` is made from."""
    if "[" not in key:
        return key
    return StepKey(key.rsplit(".", 1)[-1].partition("[")[0])


def is_item(key: StepKey) -> bool:
    """Whether ``key`` is one item of a foreach (and no step of an item's body)."""
    return key.endswith("]")


def is_child(key: StepKey) -> bool:
    """Whether a foreach made ``key`` at run time."""
    return "[" in key


def item_key(foreach: StepKey, item: int) -> StepKey:
    """Name an item of the foreach ``foreach``."""
    return StepKey(f"{foreach}[{item}]")


def body_key(item: StepKey, step: StepKey) -> StepKey:
    """Name a step of the body of ``item``."""
    return StepKey(f"{item}.{step}")


def loops(key: StepKey) -> tuple[Loop, ...]:
    """Return the foreachs around ``key``, the outermost first; of an item its own foreach too."""
    found: list[Loop] = []
    around = ""
    for part in key.split(".") if "[" in key else ():
        match = _PART.fullmatch(part)
        if match is None:
            raise ValueError(f"{key!r} is no name of a step")
        name = f"{around}{match['id']}"
        if match["item"] is not None:
            found.append(Loop(StepKey(match["id"]), StepKey(name), int(match["item"])))
        around = f"{part}." if not around else f"{around}{part}."
    return tuple(found)


def parent(key: StepKey) -> StepKey | None:
    """Return the item that a step of a body belongs to, the foreach of an item; None for a step of the plan itself."""
    if is_item(key):
        return StepKey(key.rpartition("[")[0])
    return StepKey(key.rpartition(".")[0]) if is_child(key) else None


def resolve(seen_from: StepKey, wanted: StepKey, around: Mapping[StepKey, StepKey]) -> StepKey:
    """Return the row that a step called ``seen_from`` means by the id ``wanted``.

    ``around`` maps the id of each step that stands in the body of a foreach to the id of that foreach. A step of the
    same item is meant, or one of an item around it, or one of the plan itself.
    """
    foreach = around.get(wanted)
    if foreach is None:
        return wanted
    for loop in loops(seen_from):
        if loop.id == foreach:
            return body_key(item_key(loop.key, loop.item), wanted)
    raise ValueError(f"{seen_from!r} does not see {wanted!r}, which stands inside of {foreach!r}")
