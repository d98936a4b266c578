"""The table of a run's steps, for pages and for the live view.

Owns which steps stand in it when there is no room for all: those that a person has to look at come first. The items of
a foreach stand below it; of one with many there is a count, and those that a person has to look at.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from agentflow.cli import words
from agentflow.domain.child import is_item, loops
from agentflow.domain.state import FINAL_STEP_STATES
from agentflow.storage.view_shapes import RunView, StepView

_URGENT_FIRST = (
    "running", "failed", "held", "retrying", "ready", "cancelled", "succeeded", "skipped", "pending",
)  # fmt: skip


FOLDED_FROM = 12
"""With more items than these a foreach is folded."""
LOOKED_AT = 5
"""How many steps inside of a folded foreach are shown that a person has to look at."""
_TO_LOOK_AT = ("failed", "held")


def steps_table(
    view: RunView, now: datetime, room: int, *, is_wrapping: bool = True, is_unfolded: bool = False
) -> RenderableType:
    """Return the table of at most ``room`` lines; what is left out is counted in the last one.

    Foreachs with many items are folded unless ``is_unfolded``.
    """
    every = list(view.steps.values())
    steps = every if is_unfolded else folded(every)
    shown, counts = chosen(steps, room), item_counts(every)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("step", no_wrap=True, max_width=40)
    table.add_column("state", no_wrap=True)
    table.add_column("attempt", no_wrap=True, justify="right")
    table.add_column("time", no_wrap=True, justify="right")
    table.add_column("", no_wrap=not is_wrapping, overflow="fold" if is_wrapping else "ellipsis")
    for step in shown:
        table.add_row(*_row(step, now, counts.get(step.id)))
    if len(shown) < len(steps):
        left_out = Counter(step.state.value for step in steps)
        left_out.subtract(step.state.value for step in shown)
        return Group(table, Text(f"and {len(steps) - len(shown)} more: {tally(left_out)}", "dim"))
    return table


def chosen(steps: Sequence[StepView], room: int) -> list[StepView]:
    """Return the steps to show, in the order of the plan."""
    if len(steps) <= room:
        return list(steps)
    by_urgency = sorted(range(len(steps)), key=lambda index: (_URGENT_FIRST.index(steps[index].state), index))
    return [steps[index] for index in sorted(by_urgency[: max(1, room - 1)])]


def folded(steps: Sequence[StepView]) -> list[StepView]:
    """Return the steps without what is inside of foreachs with many items, but for a few to be looked at."""
    many = {step.id for step in steps if (step.items or 0) > FOLDED_FROM}
    left = Counter(dict.fromkeys(many, LOOKED_AT))
    shown: list[StepView] = []
    for step in steps:
        hiding = next((loop.key for loop in loops(step.id) if loop.key in many), None)
        if hiding is not None:
            is_to_show = (
                step.state.value in _TO_LOOK_AT and step.action not in ("group", "foreach") and left[hiding] > 0
            )
            left[hiding] -= is_to_show
            if not is_to_show:
                continue
        shown.append(step)
    return shown


def item_counts(steps: Sequence[StepView]) -> dict[str, Counter[str]]:
    """Return for each foreach how many of its items are in which state."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for step in steps:
        if step.foreach is not None and is_item(step.id):
            counts[step.foreach][step.state.value] += 1
    return counts


def _items_told(step: StepView, counts: Counter[str]) -> str:
    done = sum(counts[state] for state in FINAL_STEP_STATES)
    others = [f"{counts[state]:,} {state}" for state in ("failed", "cancelled", "held") if counts[state]]
    return ", ".join([f"{done:,}/{step.items:,} done", *others])


def tally(counts: Counter[str]) -> str:
    """Return how many steps are in which state, the most urgent first."""
    return ", ".join(f"{counts[state]} {state}" for state in _URGENT_FIRST if counts[state])


def _row(step: StepView, now: datetime, items: Counter[str] | None) -> list[Text]:
    style = words.STATE_STYLES[step.state]
    last = step.attempts[-1] if step.attempts else None
    return [
        Text(
            f"{'  ' * len(loops(step.id))}{words.SIGNS[step.state]} {step.id}", style if step.state != "pending" else ""
        ),
        Text(step.state, style),
        Text(str(len(step.attempts)) if last else "", "dim"),
        Text(words.duration(words.attempt_seconds(last, now)) if last else ""),
        Text(_items_told(step, items) if items else words.step_reason(step, now)),
    ]
