"""The verbs that submit, follow and show runs: ``run``, ``watch``, ``wait``, ``show``, ``runs``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from agentflow.cli import exit_codes, options, printing
from agentflow.cli.opening import find_plan, opened, opened_run, read_caps, read_seconds, read_vars

if TYPE_CHECKING:
    from agentflow.client import Run, RunPage
    from agentflow.domain.pause import Pause

Detach = Annotated[bool, typer.Option("--detach", "-d", help="Submit and return at once.")]
Events = Annotated[bool, typer.Option("--events", help="Print the run's events as JSON lines while it goes.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything and print the steps; write nothing.")]
Key = Annotated[str | None, typer.Option("--idempotency-key", metavar="KEY", help="One run per key and project.")]
Timeout = Annotated[str | None, typer.Option("--timeout", metavar="DURATION", help="How long to wait: 90s, 5m, 1h30m.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    for verb in (run, watch, wait, show, runs):
        app.command(rich_help_panel=options.RUNS)(verb)


def run(
    plan: options.PlanOrName,
    variables: options.Vars = None,
    detach: Detach = False,
    idempotency_key: Key = None,
    dry_run: DryRun = False,
    budget: options.Budget = None,
    directive: options.Directive = None,
    as_json: options.AsJson = False,
    events: Events = False,
    project: options.RunProject = None,
) -> None:
    """Submit a plan, or a stored plan, and follow its run to the end. Ctrl-C leaves the run going.

    The exit code tells how it ended: 0 completed, 1 failed, 3 partial, 4 cancelled, 5 resting.
    """
    with opened() as flow:
        given, caps = read_vars(variables), read_caps(budget)
        loaded, project = find_plan(flow, plan, project)
        if dry_run:
            from agentflow.cli.plan_page import print_dry_run

            print_dry_run(flow.check(loaded, given, project=project, budget=caps, directive=directive), as_json=as_json)
            return
        submitted = flow.submit(
            loaded, given, project=project, idempotency_key=idempotency_key, budget=caps, directive=directive
        )
        if not submitted.is_sent:
            printing.note("Redis takes no messages now: the run is kept and starts once Redis is back.")
        if detach:
            _print_head(submitted, as_json=as_json or events)
            return
        if events:
            printing.print_json(_head(submitted), is_line=True)
        elif not as_json:
            _say_submitted(submitted)
        code = _follow(submitted, as_json=as_json, events=events, more={"existing": submitted.existing})
        raise typer.Exit(code)


def watch(
    run_reference: options.RunReference,
    as_json: options.AsJson = False,
    events: Events = False,
    project: options.Project = None,
) -> None:
    """Follow a run until it has ended or rests. Ctrl-C leaves the run going."""
    with opened_run(run_reference, project) as found:
        raise typer.Exit(_follow(found, as_json=as_json, events=events))


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


def show(run_reference: options.RunReference, as_json: options.AsJson = False, project: options.Project = None) -> None:
    """Show a run: its steps, why they are as they are, what they left, and what to do next."""
    with opened_run(run_reference, project) as found:
        if as_json:
            printing.print_json(found.as_json())
            return
        from agentflow.cli.run_page import run_page

        printing.page(run_page(found.view))


def runs(
    state: Annotated[str | None, typer.Option("--state", help="Only runs shown in this state.")] = None,
    name: Annotated[str | None, typer.Option("--name", help="Only runs of plans of this name.")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many.")] = 20,
    cursor: Annotated[str | None, typer.Option("--cursor", help="Go on after a page: its next_cursor.")] = None,
    as_json: options.AsJson = False,
    project: options.Project = None,
) -> None:
    """List runs, the newest first."""
    with opened() as flow:
        page = flow.runs(state=state, project=project, name=name, limit=limit, cursor=cursor)
        maintenance = flow.maintenance()
        if as_json:
            printing.print_json(_page_json(page, maintenance))
            return
        from agentflow.cli.run_page import runs_page

        printing.page(runs_page(page, maintenance))


def _head(submitted: Run) -> dict[str, object]:
    return submitted.summary.head_json() | {"existing": submitted.existing}


def _print_head(submitted: Run, *, as_json: bool) -> None:
    if as_json:
        printing.print_json(_head(submitted))
        return
    _say_submitted(submitted)
    print(f"  follow: agentflow watch {submitted.id[:8]}")


def _say_submitted(submitted: Run) -> None:
    summary = submitted.summary
    what = "is the run of that key" if submitted.existing else "submitted"
    print(f"Run {submitted.id} {what} ({summary.plan_name}, project {summary.project})", flush=True)


def _follow(found: Run, *, as_json: bool, events: bool, more: Mapping[str, object] | None = None) -> int:
    from agentflow.cli.following import follow

    try:
        follow(found, is_quiet=as_json, as_events=events)
    except KeyboardInterrupt:
        short = found.id[:8]
        printing.note(
            f"\nDetached; the run goes on.\n  follow: agentflow watch {short}\n  cancel: agentflow cancel {short}"
        )
        return exit_codes.INTERRUPTED
    if as_json or events:
        printing.print_json(found.as_json() | dict(more or {}), is_line=events)
    return exit_codes.of_state(found.state)


def _page_json(page: RunPage, maintenance: Pause | None) -> dict[str, object]:
    return {
        "schema": "agentflow.runs/1",
        "runs": [each.summary.as_json() for each in page],
        "next_cursor": page.next_cursor,
        "maintenance": maintenance and maintenance.as_json(),
    }
