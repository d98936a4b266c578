"""What a run's model calls used: in one line, and a table with a line for each call.

Owns the wording of estimates and unknown prices. The figures are the run's view's.
"""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from agentflow.cli import words
from agentflow.storage.view_shapes import AttemptView, CallView, RunView, StepView, TreeUsage, Usage


def used(usage: Usage) -> str:
    """Return what the calls of a run used; nothing for a run without calls."""
    if not usage.calls:
        return ""
    tokens = f"{usage.tokens:,} tokens ({usage.input_tokens:,} in, {usage.output_tokens:,} out)"
    marks = [f"{usage.estimated_calls} estimated"] * (usage.estimated_calls > 0)
    marks += [f"{usage.unpriced_calls} of unknown price"] * (usage.unpriced_calls > 0)
    calls = words.count(usage.calls, "call") + (f" ({', '.join(marks)})" if marks else "")
    return f"{tokens}, {words.usd(usage.usd)} in {calls}"


def used_in_all(tree: TreeUsage | None) -> str:
    """Return what a run used together with the runs below it; nothing for a run without child runs."""
    if tree is None:
        return ""
    price = f" ({tree.unpriced_calls} of unknown price)" if tree.unpriced_calls else ""
    spent = f"{tree.tokens:,} tokens, {words.usd(tree.usd)} in {words.count(tree.calls, 'call')}{price}, "
    below = words.count(tree.child_runs, "child run")
    return f"{spent if tree.calls else ''}{words.count(tree.attempts, 'attempt')} with {below}"


def calls_table(view: RunView, room: int) -> RenderableType:
    """Return the calls in the order of the plan, at most ``room`` of them; those that are left out are counted."""
    calls = [(step, attempt, attempt.call) for step in view.steps.values() for attempt in step.attempts if attempt.call]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("step", "attempt", "model"):
        table.add_column(column, no_wrap=True, justify="right" if column == "attempt" else "left")
    for column in ("in", "out", "usd", "time"):
        table.add_column(column, no_wrap=True, justify="right")
    table.add_column("", overflow="fold")
    for step, attempt, call in calls[:room]:
        table.add_row(*_row(step, attempt, call))
    if len(calls) <= room:
        return table
    return Group(table, Text(f"and {len(calls) - room} more", "dim"))


def _row(step: StepView, attempt: AttemptView, call: CallView) -> list[Text]:
    about = "~" if call.is_estimated else ""
    marks = ["estimated: the reserved upper bound counts"] if call.is_estimated else []
    marks += [f"{call.cached_tokens:,} cached"] * (call.cached_tokens > 0)
    marks += [f"{call.reasoning_tokens:,} reasoning"] * (call.reasoning_tokens > 0)
    marks += [word for word in (call.problem or call.finish_reason,) if word and word != "stop"]
    return [
        Text(words.printable(step.id)),
        Text(str(attempt.number), "dim"),
        Text(words.printable(f"{call.provider}:{call.model}")),
        Text(f"{about}{call.input_tokens:,}"),
        Text(f"{about}{call.output_tokens:,}"),
        Text("unknown" if call.usd is None else about + words.usd(call.usd)),
        Text(words.duration(call.duration_seconds)),
        Text(words.printable(", ".join(marks)), "dim"),
    ]
