"""The page that compares two runs: what differs in their plans and vars, and each step of both side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from agentflow.cli import words
from agentflow.cli.calls_table import used
from agentflow.client import RunDiff, StepDiff, StepView
from agentflow.client.run_diff import exit_code, is_reused, seconds
from agentflow.domain.plan_diff import PlanDiff
from agentflow.domain.wording import listing, shorten
from agentflow.storage.view_shapes import RunView

_ARROW = " → "


def diff_page(diff: RunDiff) -> Group:
    """Return the page."""
    parts: list[RenderableType] = [_heads(diff), Text(), Text("plan", "dim"), _indented(_plan_lines(diff))]
    if diff.vars:
        parts += [Text(), Text("vars", "dim"), _indented(_var_line(name, both) for name, both in diff.vars.items())]
    parts += [Text(), _steps_table(diff)]
    same = sum(step.is_same for step in diff.steps)
    parts.append(Text(f"{same} of {words.count(len(diff.steps), 'step')} came to the same", "dim"))
    return Group(*parts)


def _heads(diff: RunDiff) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(style="dim")
    for name, view in (("old", diff.old), ("new", diff.new)):
        summary = view.summary
        table.add_row(
            name,
            Text(words.short_id(summary.id), "cyan"),
            Text(summary.plan_name),
            Text(summary.state.value, words.STATE_STYLES[summary.state]),
            Text(f"{words.moment(summary.created_at)} UTC", "dim"),
            Text(_spent(view)),
        )
    return table


def _spent(view: RunView) -> str:
    usage = view.usage
    took = f"{words.took(view)} in {words.count(usage.attempts, 'attempt')}"
    return "; ".join(filter(None, (took, used(usage))))


def _plan_lines(diff: RunDiff) -> Iterator[str]:
    fingerprints = [view.summary.plan_fingerprint[:12] for view in (diff.old, diff.new)]
    if fingerprints[0] == fingerprints[1]:
        yield f"the same, {fingerprints[0]}"
        return
    yield _ARROW.join(fingerprints)
    yield from _changes(diff.plan)


def _changes(plan: PlanDiff) -> Iterator[str]:
    if plan.fields:
        yield f"changed: {listing(plan.fields)}"
    for what, keys in (("added", plan.added), ("removed", plan.removed)):
        if keys:
            yield f"{what}: {listing(keys)}"
    for key, names in plan.changed.items():
        yield f"{key}: {listing(names)} changed"


def _var_line(name: str, both: Mapping[str, Any]) -> str:
    values = [shorten(json.dumps(both[side], ensure_ascii=False)) if side in both else "-" for side in ("old", "new")]
    return f"{name}: {_ARROW.join(values)}"


def _indented(lines: Iterable[str]) -> Padding:
    return Padding(Group(*(Text(words.printable(line)) for line in lines)), (0, 0, 0, 2), expand=False)


def _steps_table(diff: RunDiff) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("step", "state", "attempts", "time", "exit", "result"):
        table.add_column(column, no_wrap=True)
    table.add_column("files")
    for step in diff.steps:
        table.add_row(*(Text(words.printable(cell), "dim" if step.is_same else "") for cell in _cells(step)))
    return table


def _cells(step: StepDiff) -> list[str]:
    return [
        step.id,
        _both(step, lambda side: side.state.value),
        _both(step, lambda side: "reused" if is_reused(side) else str(len(side.attempts))),
        _both(step, lambda side: words.duration(seconds(side))),
        _both(step, lambda side: "" if exit_code(side) is None else str(exit_code(side))),
        _result(step),
        _files(step),
    ]


def _both(step: StepDiff, cell: Callable[[StepView], str]) -> str:
    """Return what both runs say, once where they agree; ``-`` for a run that has no such step."""
    old, new = ("-" if side is None else cell(side) for side in (step.old, step.new))
    return new if old == new else f"{old or '-'}{_ARROW}{new or '-'}"


def _result(step: StepDiff) -> str:
    has_some = any(side is not None and side.result is not None for side in (step.old, step.new))
    return ("same" if step.has_same_result else "changed") if has_some else ""


def _files(step: StepDiff) -> str:
    left = step.artifacts
    told = [
        f"{what} {listing(names)}"
        for what, names in (("changed", left.changed), ("added", left.added), ("removed", left.removed))
        if names
    ]
    return "; ".join(told) or ("same" if left.same else "")
