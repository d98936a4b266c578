"""The verbs about dead letters: ``dead-letters`` (``list``) and ``dead-letters replay``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agentflow.cli import options, printing
from agentflow.cli.opening import opened

if TYPE_CHECKING:
    from agentflow.engine.replay import Replayed

Name = Annotated[str | None, typer.Option("--name", help="Only of plans of this name.")]
OptionalRun = Annotated[str | None, typer.Argument(metavar="[RUN]", help="A run: its id, a unique prefix, or @last.")]
OptionalStep = Annotated[str | None, typer.Argument(metavar="[STEP]", help="The poisoned step of that run.")]
All = Annotated[bool, typer.Option("--all", help="Every dead letter, or those of --project and --name.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would be taken up.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    dead = typer.Typer(help="Show and replay steps that were given up because they lost worker after worker.")
    dead.callback(invoke_without_command=True)(_list_by_default)
    dead.command("list")(list_)
    dead.command()(replay)
    app.add_typer(dead, name="dead-letters", rich_help_panel=options.RUNS)


def _list_by_default(
    context: typer.Context, project: options.Project = None, name: Name = None, as_json: options.AsJson = False
) -> None:
    """Show and replay steps that were given up because they lost worker after worker."""
    if context.invoked_subcommand is None:
        list_(project, name, as_json)


def list_(project: options.Project = None, name: Name = None, as_json: options.AsJson = False) -> None:
    """List the poisoned steps, the newest first: how often they lost their worker, since when, and which workers."""
    with opened() as flow:
        found = flow.dead_letters(project=project, name=name)
        if as_json:
            printing.print_json(found.as_json())
            return
        from agentflow.cli.dead_letters_page import dead_letters_page

        printing.page(dead_letters_page(found))


def replay(
    run_reference: OptionalRun = None,
    step: OptionalStep = None,
    everything: All = False,
    dry_run: DryRun = False,
    project: options.Project = None,
    name: Name = None,
    as_json: options.AsJson = False,
) -> None:
    """Take a poisoned step up again, in a new round of its run; or all of them. Mend what killed the workers first."""
    from agentflow.domain.error import UsageError

    if everything == (run_reference is not None) or (run_reference is None) != (step is None):
        raise UsageError("Name a RUN and its STEP, or --all.")
    with opened() as flow:
        if run_reference is None or step is None:
            replayed = flow.replay_all(project=project, name=name, is_dry=dry_run)
        else:
            replayed = [flow.replay(run_reference, step, project=project, is_dry=dry_run)]
    if as_json:
        answer = {"schema": "agentflow.replay/1", "is_dry_run": dry_run}
        printing.print_json(answer | {"runs": [each.as_json() for each in replayed]})
    else:
        _tell(replayed, is_dry=dry_run)


def _tell(replayed: list[Replayed], *, is_dry: bool) -> None:
    from agentflow.cli.words import short_id
    from agentflow.domain.wording import listing

    if not replayed:
        print("There are no dead letters.")
    for each in replayed:
        if each.refusal is not None:
            print(f"Left as it is: {each.refusal}.")
            continue
        print(f"Run {short_id(each.run_id)} {'would go' if is_dry else 'goes'} on with {listing(each.steps)}.")
        if not is_dry:
            print(f"  follow: agentflow watch {short_id(each.run_id)}")
