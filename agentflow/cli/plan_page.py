"""The pages of plans: what a dry run found, the steps of a plan, and faults."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from agentflow.cli import printing, words

if TYPE_CHECKING:
    from rich.table import Table

    from agentflow.client import CheckedPlan, LoadedPlan
    from agentflow.domain.fault import Fault
    from agentflow.domain.plan import Plan


def print_dry_run(checked: CheckedPlan, *, as_json: bool) -> None:
    """Tell what a submission would do."""
    plan = checked.loaded.plan
    if as_json:
        head = {"schema": "agentflow.dry-run/1", "project": checked.project, "vars": dict(checked.vars)}
        printing.print_json(head | plan_json(plan))
        return
    print_plan(checked.loaded)
    for name, value in checked.vars.items():
        print(f"  var {name} = {value!r}")
    print(f"Nothing was written. It would run in project {checked.project}.")


def plan_json(plan: Plan) -> dict[str, Any]:
    """Return what a plan will do, without templates and commands."""
    return {
        "plan": {"name": plan.name, "fingerprint": plan.fingerprint},
        "files": [file.model_dump(mode="json") for file in plan.files],
        "secrets": list(plan.secrets),
        "steps": [
            {
                "id": step.id,
                "action": step.action.type,
                "needs": list(step.needs),
                "when": step.when,
                "timeout_seconds": step.timeout_seconds,
                "max_attempts": step.retry.max_attempts,
                "on_failure": step.on_failure,
                "on_lost": step.on_lost,
            }
            for step in plan.steps
        ],
    }


def print_plan(loaded: LoadedPlan) -> None:
    """Print a plan for a person."""
    plan = loaded.plan
    print(f"{plan.name}  {plan.fingerprint[:12]}  {words.count(len(plan.steps), 'step')}")
    printing.page(_steps(plan))
    if plan.files:
        total = sum(file.bytes for file in plan.files)
        print(f"  {words.count(len(plan.files), 'file')} beside the plan, {words.size(total)}")
    if plan.secrets:
        print(f"  secrets, resolved in the worker: {', '.join(plan.secrets)}")


def _steps(plan: Plan) -> Table:
    from rich.table import Table
    from rich.text import Text

    from agentflow.domain.duration import format_duration

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("step", "action", "needs", "when", "timeout", "attempts"):
        table.add_column(column, no_wrap=column in ("step", "action"), overflow="fold")
    for step in plan.steps:
        cells = (
            step.id,
            step.action.type,
            ", ".join(step.needs),
            "" if step.when == "succeeded" else step.when,
            format_duration(step.timeout_seconds),
            str(step.retry.max_attempts),
        )
        table.add_row(*(Text(words.printable(cell)) for cell in cells))
    return table


def print_faults(faults: Sequence[Fault], *, as_json: bool) -> None:
    """Tell every fault of a plan; none is good news."""
    if as_json:
        printing.print_json([printing.fault_json(fault) for fault in faults])
        return
    for fault in faults:
        print(printing.fault_line(fault))
