"""The verbs about plans: ``plan check``, ``show``, ``graph``, ``schema``, ``push`` and ``list``.

The last two are about stored plans; the others need no servers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agentflow.cli import exit_codes, options, printing
from agentflow.cli.opening import opened

if TYPE_CHECKING:
    from agentflow.domain.fault import Fault
    from agentflow.domain.plan import Plan


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    plans = typer.Typer(no_args_is_help=True, help="Check, show, draw and store plans.")
    for verb in (check, show, graph, schema, push):
        plans.command()(verb)
    plans.command("list")(list_stored)
    app.add_typer(plans, name="plan", rich_help_panel=options.PLANS)


def check(plan: options.PlanPath, as_json: options.AsJson = False) -> None:
    """Find every fault of a plan at once; exit code 2 when there is one."""
    from agentflow.cli.plan_page import print_faults
    from agentflow.cli.words import count
    from agentflow.engine.load_workflow import examine
    from agentflow.executors.base import known_actions

    loaded, faults = examine(plan, available_actions=known_actions())
    if loaded is not None and not faults and loaded.plan.budget is not None:
        faults = loaded.placed(_cost_faults(loaded.plan))
    print_faults(faults, as_json=as_json)
    if faults:
        if not as_json:
            printing.note(f"{plan}: {count(len(faults), 'fault')}")
        raise typer.Exit(exit_codes.USAGE)
    if loaded is not None and not as_json:
        print(f"{plan}: {loaded.plan.name} is sound, {count(len(loaded.plan.steps), 'step')}")


def _cost_faults(plan: Plan) -> tuple[Fault, ...]:
    """What a submit would refuse of the plan's model calls under its own budget and those of the configuration."""
    from agentflow.domain.budget import Budget
    from agentflow.engine.check_costs import check_costs
    from agentflow.settings import load_settings

    values = {name: spec.default for name, spec in plan.vars.items()}
    caps, settings = plan.budget or Budget(), load_settings()
    return check_costs(plan, values, caps=caps, project=plan.project, directive=plan.directive, settings=settings)


def show(plan: options.PlanPath, as_json: options.AsJson = False) -> None:
    """Show a plan as it would be stored: needs resolved, content replaced by its hash."""
    from agentflow.cli.plan_page import print_plan
    from agentflow.client import Plan

    loaded = Plan.load(plan)
    if as_json:
        stored = loaded.plan.model_dump(mode="json", exclude_none=True)
        printing.print_json({"schema": "agentflow.plan/1", "fingerprint": loaded.plan.fingerprint, "plan": stored})
    else:
        print_plan(loaded)


def graph(plan: options.PlanPath, as_json: options.AsJson = False) -> None:
    """Draw a plan as a Mermaid flowchart."""
    from agentflow.client import Plan
    from agentflow.domain.graph import Graph
    from agentflow.domain.plan_picture import plan_to_mermaid

    loaded = Plan.load(plan)
    if not as_json:
        print(plan_to_mermaid(loaded.plan), end="")
        return
    levels = [list(level) for level in Graph(loaded.plan).levels]
    needs = {step.id: list(step.needs) for step in loaded.plan.steps}
    picture = plan_to_mermaid(loaded.plan)
    printing.print_json({"schema": "agentflow.graph/1", "needs": needs, "levels": levels, "mermaid": picture})


def schema(as_json: options.AsJson = False) -> None:
    """Print the JSON Schema of plans, for editors."""
    from agentflow.domain.plan_schema import plan_schema

    printing.print_json(plan_schema())


def push(plan: options.PlanPath, as_json: options.AsJson = False, project: options.PlanProject = None) -> None:
    """Store a plan with all that it brings along as the next version of its name: run it by `agentflow run NAME`."""
    from agentflow.client import Plan

    loaded = Plan.load(plan)
    with opened() as flow:
        pushed = flow.push(loaded, project=project)
    if as_json:
        names = ("project", "name", "version", "fingerprint", "is_new")
        printing.print_json({"schema": "agentflow.push/1"} | {name: getattr(pushed, name) for name in names})
        return
    which = f"{pushed.name}@{pushed.version}"
    print(f"Stored as {which} in project {pushed.project}." if pushed.is_new else f"{which} is that plan already.")
    print(f"  run it: agentflow run {pushed.name}")


def list_stored(
    name: Annotated[str | None, typer.Option("--name", help="Only plans of this name.")] = None,
    as_json: options.AsJson = False,
    project: options.Project = None,
) -> None:
    """List the stored plans with their versions, the newest first."""
    from agentflow.cli.plan_page import stored_page

    with opened() as flow:
        found = flow.stored_plans(project=project, name=name)
    if as_json:
        printing.print_json({"schema": "agentflow.stored-plans/1", "plans": [each.as_json() for each in found]})
    else:
        printing.page(stored_page(found))
