"""The verbs that submit, follow and show runs: ``run``, ``watch``, ``wait``, ``show``, ``runs``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentflow.cli import exit_codes, options, printing
from agentflow.cli.going_on import follow_run, go_on, watch_run
from agentflow.cli.opening import find_plan, opened, opened_run, read_caps, read_seconds, read_vars

if TYPE_CHECKING:
    from agentflow.client import AgentFlow, RunPage
    from agentflow.domain.pause import Pause

DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything and print the steps; write nothing.")]
Mode = Annotated[
    str | None,
    typer.Option("--mode", metavar="MODE", help="strict asks a person first, auto does not, dry-run only tells."),
]
PlanHash = Annotated[
    str | None, typer.Option("--plan-hash", metavar="HASH", help="Run exactly the plan of this fingerprint, or refuse.")
]
Timeout = Annotated[str | None, typer.Option("--timeout", metavar="DURATION", help="How long to wait: 90s, 5m, 1h30m.")]
Other = Annotated[str | None, typer.Argument(metavar="[NEW]", help="With --diff: the run to compare it with.")]
Diff = Annotated[bool, typer.Option("--diff", help="Compare two runs: plan, vars, and each step with what it left.")]
AllItems = Annotated[bool, typer.Option("--all-items", help="List every item of foreachs with many, and every step.")]

LISTED = 20
"""How many runs are listed unless another number is asked for."""


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    for verb in (run, watch, wait, show, runs):
        app.command(rich_help_panel=options.RUNS)(verb)


def run(
    plan: options.PlanOrName,
    variables: options.Vars = None,
    detach: options.Detach = False,
    idempotency_key: options.Key = None,
    dry_run: DryRun = False,
    budget: options.Budget = None,
    directive: options.Directive = None,
    as_json: options.AsJson = False,
    events: options.Events = False,
    project: options.RunProject = None,
    mode: Mode = None,
    plan_hash: PlanHash = None,
) -> None:
    """Submit a plan, or a stored plan, and follow its run to the end. Ctrl-C leaves the run going.

    The exit code tells how it ended: 0 completed, 1 failed, 3 partial, 4 cancelled, 5 resting.
    """
    given, caps = read_vars(variables), read_caps(budget)
    with opened() as flow:
        loaded, project = find_plan(flow, plan, project)
        is_dry, mode = _read_mode(flow, mode, dry_run=dry_run)
        wanted: dict[str, Any] = {"project": project, "budget": caps, "directive": directive, "plan_hash": plan_hash}
        if is_dry:
            from agentflow.cli.plan_page import print_dry_run

            print_dry_run(flow.check(loaded, given, mode=mode, **wanted), as_json=as_json)
            return
        wanted |= {"idempotency_key": idempotency_key}
        if mode == "strict":
            from agentflow.cli.strict import submit_strictly

            submitted = submit_strictly(flow, loaded, given, wanted, detach=detach, speaks_json=as_json or events)
        else:
            submitted = flow.submit(loaded, given, mode=mode, **wanted)
        what = "is the run of that key" if submitted.existing else "submitted"
        raise typer.Exit(go_on(submitted, what, detach=detach, as_json=as_json, events=events))


def _read_mode(flow: AgentFlow, mode: str | None, *, dry_run: bool) -> tuple[bool, str]:
    """Return whether only to tell what would be done, and the mode that the run has or would have."""
    from agentflow.domain.mode import Mode as Modes

    usual: str = flow.settings.mode
    if mode in (Modes.DRY_RUN, "dry_run"):
        return True, usual
    return dry_run, mode or usual


def watch(
    run_reference: options.RunReference,
    as_json: options.AsJson = False,
    events: options.Events = False,
    project: options.Project = None,
) -> None:
    """Follow a run until it has ended or rests. Ctrl-C leaves the run going.

    At a terminal one key each pauses it, resumes it, cancels it, decides its gate or guides its next model call.
    """
    with opened_run(run_reference, project) as found:
        from agentflow.cli.watching import has_keys

        if has_keys() and not (as_json or events):
            raise typer.Exit(watch_run(found))
        raise typer.Exit(follow_run(found, as_json=as_json, events=events))


def wait(
    run_reference: options.RunReference,
    timeout: Timeout = None,
    as_json: options.AsJson = False,
    project: options.Project = None,
) -> None:
    """Wait until a run has ended or rests; exit code 124 when the time is over before."""
    from agentflow.cli.run_page import closing_line

    seconds = read_seconds(timeout)
    with opened_run(run_reference, project) as found:
        found.wait(seconds)
        if as_json:
            printing.print_json(found.as_json())
        else:
            printing.page(closing_line(found.view))
        raise typer.Exit(exit_codes.of_state(found.state))


def show(
    run_reference: options.RunReference,
    other: Other = None,
    diff: Diff = False,
    all_items: AllItems = False,
    as_json: options.AsJson = False,
    project: options.Project = None,
) -> None:
    """Show a run: its steps, why they are as they are, what they left, and what to do next; or compare two runs."""
    if diff or other:
        _show_diff(run_reference, other, has_flag=diff, as_json=as_json, project=project)
        return
    with opened_run(run_reference, project) as found:
        if as_json:
            printing.print_json(found.as_json())
            return
        from agentflow.cli.run_page import run_page

        printing.page(run_page(found.view, found.verdicts, has_all_items=all_items))


def _show_diff(old: str, new: str | None, *, has_flag: bool, as_json: bool, project: str | None) -> None:
    from agentflow.domain.error import UsageError

    if new is None or not has_flag:
        raise UsageError(
            "Two runs are compared by `agentflow show --diff OLD NEW`; one is shown by `agentflow show RUN`."
        )
    with opened() as flow:
        found = flow.diff(flow.get(old, project=project), flow.get(new, project=project))
    if as_json:
        printing.print_json(found.as_json())
        return
    from agentflow.cli.diff_page import diff_page

    printing.page(diff_page(found))


def runs(
    state: Annotated[str | None, typer.Option("--state", help="Only runs shown in this state.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Only runs of plans of this name.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many.")] = LISTED,
    cursor: Annotated[str | None, typer.Option("--cursor", help="Go on after a page: its next_cursor.")] = None,
    children: Annotated[bool, typer.Option("--children", help="Also the runs that steps of others started.")] = False,
    parent: Annotated[
        str | None, typer.Option("--parent", metavar="RUN", help="Only the child runs of this one.")
    ] = None,
    as_json: options.AsJson = False,
    project: options.Project = None,
) -> None:
    """List runs, the newest first."""
    has_checks = not (state is None and cursor is None and limit == LISTED)  # a slip in these is told of first
    with opened(is_read=not has_checks) as flow:
        page = flow.runs(
            state=state, project=project, name=name, limit=limit, cursor=cursor, children=children, parent=parent
        )
        maintenance = flow.maintenance()
        if as_json:
            printing.print_json(_page_json(page, maintenance))
            return
        from agentflow.cli.run_page import runs_page

        printing.page(runs_page(page, maintenance))


def _page_json(page: RunPage, maintenance: Pause | None) -> dict[str, object]:
    return {
        "schema": "agentflow.runs/1",
        "runs": [each.summary.as_json() for each in page],
        "next_cursor": page.next_cursor,
        "maintenance": maintenance and maintenance.as_json(),
    }
