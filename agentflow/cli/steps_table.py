"""The table of a run's steps, for pages and for the live view.

Owns which steps stand in it when there is no room for all: those that a person has to look at come first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import datetime

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from agentflow.cli import words
from agentflow.storage.view_shapes import RunView, StepView

_URGENT_FIRST = (
    "running", "failed", "held", "retrying", "ready", "cancelled", "succeeded", "skipped", "pending",
)  # fmt: skip


def steps_table(view: RunView, now: datetime, room: int, *, is_wrapping: bool = True) -> RenderableType:
    """Return the table of at most ``room`` lines; what is left out is counted in the last one."""
    steps = list(view.steps.values())
    shown = chosen(steps, room)
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    table.add_column("step", no_wrap=True, max_width=40)
    table.add_column("state", no_wrap=True)
    table.add_column("attempt", no_wrap=True, justify="right")
    table.add_column("time", no_wrap=True, justify="right")
    table.add_column("", no_wrap=not is_wrapping, overflow="fold" if is_wrapping else "ellipsis")
    for step in shown:
        table.add_row(*_row(step, now))
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


def tally(counts: Counter[str]) -> str:
    """Return how many steps are in which state, the most urgent first."""
    return ", ".join(f"{counts[state]} {state}" for state in _URGENT_FIRST if counts[state])


def _row(step: StepView, now: datetime) -> list[Text]:
    style = words.STATE_STYLES[step.state]
    last = step.attempts[-1] if step.attempts else None
    return [
        Text(f"{words.SIGNS[step.state]} {step.id}", style if step.state != "pending" else ""),
        Text(step.state, style),
        Text(str(len(step.attempts)) if last else "", "dim"),
        Text(words.duration(words.attempt_seconds(last, now)) if last else ""),
        Text(words.step_reason(step, now)),
    ]
