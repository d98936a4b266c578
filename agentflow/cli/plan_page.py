"""The pages of plans: what a dry run found, the steps of a plan, and faults."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from agentflow.cli import printing, words

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

    from agentflow.client import CheckedPlan, LoadedPlan
    from agentflow.domain.action import WaitAction
    from agentflow.domain.budget import Budget
    from agentflow.domain.fault import Fault
    from agentflow.domain.plan import Plan, Step
    from agentflow.storage.plans import PlanVersion


def print_dry_run(checked: CheckedPlan, *, as_json: bool, is_dry: bool = True) -> None:
    """Tell what a submission would do."""
    if as_json:
        printing.print_json(checked.as_json())
        return
    from agentflow.cli.forecast_page import forecast_lines

    print_plan(checked.loaded, budget=checked.budget, directive=checked.directive)
    for line in forecast_lines(checked):
        print(words.printable(line))
    for name, value in checked.vars.items():
        print(f"  var {name} = {value!r}")
    if is_dry:
        print(f"Nothing was written. It would run in project {checked.project}.")


def print_plan(loaded: LoadedPlan, *, budget: Budget | None = None, directive: str | None = None) -> None:
    """Print a plan for a person; ``budget`` and ``directive`` are those of the run that it would become, if any."""
    plan = loaded.plan
    print(f"{plan.name}  {plan.fingerprint[:12]}  {words.count(len(plan.steps), 'step')}")
    if directive or plan.directive:
        print(f"  directive {directive or plan.directive}")
    if caps := _caps(budget or plan.budget):
        print(f"  budget: {caps}")
    printing.page(_steps(plan))
    if plan.files:
        total = sum(file.bytes for file in plan.files)
        print(f"  {words.count(len(plan.files), 'file')} beside the plan, {words.size(total)}")
    if plan.secrets:
        print(f"  secrets, resolved in the worker: {', '.join(plan.secrets)}")


def _caps(budget: Budget | None) -> str:
    from agentflow.domain.budget import BudgetKind
    from agentflow.domain.shortfall import cap_of, written

    if budget is None:
        return ""
    caps = {kind: cap for kind in BudgetKind if (cap := cap_of(budget, kind)) is not None}
    return ", ".join(f"{kind} {written(kind, cap)}" for kind, cap in caps.items())


def _steps(plan: Plan) -> Table:
    from rich.table import Table
    from rich.text import Text

    shown = {name: [cell(step) for step in plan.every_step] for name, cell in _CELLS.items()}
    # A body stands below its foreach.
    shown["step"] = [f"{'  ' * (path.count('steps') - 1)}{step.id}" for step, path in plan.places()]
    names = [name for name, cells in shown.items() if name not in _WHERE_WRITTEN or any(cells)]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in names:
        table.add_column(name, no_wrap=name in ("step", "action"), overflow="fold")
    for row in zip(*(shown[name] for name in names), strict=True):
        table.add_row(*(Text(words.printable(cell)) for cell in row))
    return table


def _called(step: Step) -> str:
    """Write what a step calls or waits for: a model, an address, another plan, a time, a signal."""
    from agentflow.domain.action import HttpAction, LlmAction, PythonAction, RunAction, WaitAction
    from agentflow.domain.wording import shorten

    match step.action:
        case LlmAction(model=model):
            return shorten(model)
        case HttpAction(method=method, url=url):
            return f"{method} {shorten(url)}"
        case RunAction(plan=called) | PythonAction(call=called):
            return shorten(called)
        case WaitAction() as wait:
            return _waits_for(wait)
        case _:
            return ""


def _waits_for(wait: WaitAction) -> str:
    from agentflow.domain.duration import format_duration
    from agentflow.domain.wording import shorten

    if wait.for_seconds is not None:
        return format_duration(wait.for_seconds)
    if wait.until is not None:
        return f"until {shorten(wait.until)}"
    longest = "" if wait.timeout_seconds is None else f", {format_duration(wait.timeout_seconds)} at most"
    return f"signal {wait.event}{longest}"


def _timeout(step: Step) -> str:
    from agentflow.domain.duration import format_duration

    return format_duration(step.timeout_seconds) if _is_performed(step) else ""


def _attempts(step: Step) -> str:
    return str(step.retry.max_attempts) if _is_performed(step) else ""


def _is_performed(step: Step) -> bool:
    """Whether a worker performs it, so that it has attempts."""
    from agentflow.domain.action import ENGINE_ACTIONS

    return step.action.type not in ENGINE_ACTIONS


def _foreach(step: Step) -> str:
    """Write what a step is done for: ``steps.list.result, 5 at once, partial``."""
    from agentflow.domain.wording import shorten

    if (terms := step.foreach) is None:
        return ""
    items = shorten(terms.items) if isinstance(terms.items, str) else words.count(len(terms.items), "item")
    at_once = f"{terms.max_parallel} at once" if terms.max_parallel else ""
    return ", ".join(part for part in (items, at_once, terms.merge.replace("_", " ")) if part)


def _limits(step: Step) -> str:
    """Write the limits of a step: ``60/m of openai, 10 at once after a pause; 4 at a time of db``."""
    from agentflow.domain.limit_document import UNIT_SECONDS

    limits = []
    if (rate := step.rate_limit) is not None:
        units = {seconds: unit for unit, seconds in UNIT_SECONDS.items()}
        shared = f" of {rate.key}" if rate.key else ""
        burst = f", {rate.burst} at once after a pause" if rate.burst > 1 else ""
        limits.append(f"{rate.limit}/{units.get(rate.per_seconds, f'{rate.per_seconds}s')}{shared}{burst}")
    if (concurrency := step.concurrency) is not None:
        limits.append(f"{concurrency.limit} at a time of {concurrency.key}")
    return "; ".join(limits)


_CELLS: Mapping[str, Callable[[Step], str]] = {
    "step": lambda step: step.id,
    "action": lambda step: step.action.type,
    "what": _called,
    "for each": _foreach,
    "needs": lambda step: ", ".join(step.needs),
    "when": lambda step: "" if step.when == "succeeded" else step.when,
    "timeout": _timeout,
    "attempts": _attempts,
    "limits": _limits,
}
_WHERE_WRITTEN = ("what", "for each", "limits")
"""Columns that are there only if a step has something in them."""


def print_faults(faults: Sequence[Fault], *, as_json: bool) -> None:
    """Tell every fault of a plan; none is good news."""
    if as_json:
        printing.print_json([printing.fault_json(fault) for fault in faults])
        return
    for fault in faults:
        print(printing.fault_line(fault))


def stored_page(found: Sequence[PlanVersion]) -> RenderableType:
    """Return the list of stored plans."""
    from rich.table import Table
    from rich.text import Text

    if not found:
        return Text("No plan is stored. `agentflow plan push PLAN` stores one.")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("plan", "fingerprint", "pushed", "by", "project"):
        table.add_column(column, no_wrap=True)
    for each in found:
        pushed_at = f"{words.moment(each.pushed_at)} UTC"
        cells = (f"{each.name}@{each.version}", each.fingerprint[:12], pushed_at, each.pushed_by, each.project)
        table.add_row(*(Text(words.printable(cell)) for cell in cells))
    return table
