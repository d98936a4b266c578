"""The verb ``fork``: a new run that takes over what a run did before a step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agentflow.cli import options, printing
from agentflow.cli.going_on import go_on
from agentflow.cli.opening import find_plan, opened, read_caps, read_vars

if TYPE_CHECKING:
    from agentflow.client import ForkedRun, Run

FromStep = Annotated[
    str, typer.Option("--from", metavar="STEP", help="The step that runs again, with what follows it.")
]
Edited = Annotated[
    str | None,
    typer.Option(
        "--edit", metavar="PLAN|NAME", help="An edited plan: what changed in it, and what follows, runs again."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command(rich_help_panel=options.RUNS)(fork)


def fork(
    run_reference: options.RunReference,
    from_step: FromStep,
    variables: options.Vars = None,
    edit: Edited = None,
    detach: options.Detach = False,
    idempotency_key: options.Key = None,
    budget: options.Budget = None,
    directive: options.Directive = None,
    as_json: options.AsJson = False,
    events: options.Events = False,
    project: options.Project = None,
) -> None:
    """Make a new run of a run from a step on, and follow it; what succeeded before is taken over, not run again.

    The run that is forked stays as it is. Its vars and budget hold for the new one where no others are given.
    """
    with opened() as flow:
        origin = flow.get(run_reference, project=project)
        plan = None if edit is None else find_plan(flow, edit, origin.summary.project)[0]
        made = flow.fork(
            origin,
            from_step,
            vars=read_vars(variables),
            plan=plan,
            budget=read_caps(budget),
            directive=directive,
            idempotency_key=idempotency_key,
        )
        _warn(made)
        if not made.reused and not made.existing:
            _note_nothing(made, origin, from_step, is_edited=plan is not None)
        what = _what(made, origin.id[:8], from_step)
        raise typer.Exit(go_on(made, what, detach=detach, as_json=as_json, events=events, more=made.fork_json()))


def _what(made: ForkedRun, origin: str, from_step: str) -> str:
    from agentflow.cli.words import count

    if made.existing:
        return "is the run of that key"
    return f"forks {origin} from {from_step} and takes over {count(len(made.reused), 'step')}"


def _note_nothing(made: ForkedRun, origin: Run, from_step: str, *, is_edited: bool) -> None:
    """Say why a strict run, or an edited plan, took over nothing, as far as that can be seen."""
    from agentflow.domain.mode import APPROVE_EXECUTION

    if APPROVE_EXECUTION in made.steps:
        printing.note("Nothing was taken over: the run is strict, and all of it waits for a yes of its own.")
        return
    if not is_edited:
        return
    old, new = origin.summary.plan_name, made.summary.plan_name
    named = f"the plan is {new}, the run that is forked is of {old}; " if old != new else ""
    printing.note(
        f"Nothing was taken over: {named}only a step is that succeeded, stands in the edited plan as it was, with all "
        f"that it needs, and does not follow from {from_step}."
    )


def _warn(made: ForkedRun) -> None:
    """Say which of the steps that were taken over may have gone by what is otherwise now."""
    from agentflow.domain.wording import listing

    for step, names in made.outdated.items():
        what = f"the var{'s' if len(names) > 1 else ''} {listing(names)}"
        printing.note(f"Step {step} was taken over as it was, although it reads {what}: fork from it to run it again.")
    if made.changed_files:
        printing.note(
            f"Steps were taken over that may have read files as they were before: {listing(made.changed_files)}. "
            "Fork from an earlier step to run them again."
        )
