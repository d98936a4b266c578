"""The verbs about schedules: ``schedule create``, ``list``, ``show``, ``pause``, ``resume``, ``run-now``, ``backfill``,
``delete`` and ``history``. How they look is schedule_page's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentflow.cli import options, printing
from agentflow.cli.opening import opened, read_caps, read_vars
from agentflow.cli.option_names import BACKFILL, CREATE, naming

if TYPE_CHECKING:
    from agentflow.engine.backfill import Backfilled

Name = Annotated[str, typer.Argument(metavar="NAME", help="The schedule.")]
Plan = Annotated[str, typer.Option("--plan", metavar="PLAN[@VERSION]", help="A stored plan; else its newest version.")]
CronLine = Annotated[
    str | None, typer.Option("--cron", metavar="LINE", help="Five fields, such as '0 6 * * 1-5', or @daily.")
]
Every = Annotated[str | None, typer.Option("--every", metavar="DURATION", help="An interval: 15m, 1h30m, 2d.")]
At = Annotated[str | None, typer.Option("--at", metavar="TIME", help="Once: 2026-12-01T06:00.")]
Start = Annotated[str | None, typer.Option("--start", metavar="TIME", help="Where --every begins; else now.")]
Zone = Annotated[str, typer.Option("--tz", metavar="ZONE", help="The time zone, such as Europe/Berlin.")]
Jitter = Annotated[
    str, typer.Option("--jitter", metavar="DURATION", help="Fire up to so much later, each due time by its own share.")
]
Overlap = Annotated[
    str,
    typer.Option(
        "--overlap", help="While a run of it has not ended: skip, queue, cancel-previous or allow.", show_default=True
    ),
]
Depth = Annotated[int, typer.Option("--queue-depth", metavar="N", help="How many may queue.", show_default=True)]
CatchUp = Annotated[
    str,
    typer.Option("--catch-up", metavar="DURATION", help="What fell due while no beat ran fires up to so much later."),
]
Since = Annotated[str, typer.Option("--from", metavar="TIME", help="The first due time, local to the schedule's zone.")]
Until = Annotated[str | None, typer.Option("--to", metavar="TIME", help="The last due time; now if not given.")]
Disabled = Annotated[bool, typer.Option("--disabled", help="Keep it stopped until `schedule resume`.")]
Replace = Annotated[bool, typer.Option("--replace", help="In the place of one of this name, if there is one.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, print the due times, write nothing.")]
Project = Annotated[str | None, typer.Option("--project", help="The schedule's project; else AGENTFLOW_PROJECT.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    schedule = typer.Typer(no_args_is_help=True, help="Run stored plans by the clock, on beat.")
    for verb in (create, show, pause, resume, backfill, delete, history):
        schedule.command()(verb)
    schedule.command("list")(list_)
    schedule.command("run-now")(run_now)
    app.add_typer(schedule, name="schedule", rich_help_panel=options.RUNS)


def create(
    name: Name,
    plan: Plan,
    cron: CronLine = None,
    every: Every = None,
    at: At = None,
    start: Start = None,
    tz: Zone = "UTC",
    jitter: Jitter = "0s",
    overlap: Overlap = "skip",
    queue_depth: Depth = 1,
    catch_up: CatchUp = "10m",
    variables: options.Vars = None,
    budget: options.Budget = None,
    directive: options.Directive = None,
    disabled: Disabled = False,
    replace: Replace = False,
    dry_run: DryRun = False,
    project: Project = None,
    as_json: options.AsJson = False,
) -> None:
    """Keep when a stored plan runs by itself: --cron, --every or --at. Times without an offset are local to --tz.

    Without @VERSION each firing runs the newest version. A var `due_at` of the plan gets the firing's due time.
    """
    from agentflow.cli.schedule_page import kept_line, schedule_page

    when: dict[str, Any] = {"cron": cron, "every": every, "at": at, "start": start, "time_zone": tz, "jitter": jitter}
    how: dict[str, Any] = {"overlap": overlap, "queue_depth": queue_depth, "catch_up": catch_up, "directive": directive}
    given, caps = read_vars(variables), read_caps(budget)
    what: dict[str, Any] = {"is_enabled": not disabled, "is_replacing": replace, "is_dry": dry_run, "project": project}
    with opened() as flow, naming(CREATE):
        report = flow.schedules.create(name, plan, vars=given, budget=caps, **what, **when, **how)
    if as_json:
        printing.print_json(report.as_json() | report.kept_json())
    else:
        print(kept_line(report))
        printing.page(schedule_page(report))


def list_(as_json: options.AsJson = False, project: options.Project = None) -> None:
    """List the schedules: when each is due next, and what became of its last due time."""
    from agentflow.cli.schedule_page import schedules_page

    with opened() as flow:
        found = flow.schedules.list(project=project)
    if as_json:
        printing.print_json({"schema": "agentflow.schedules/1", "schedules": [each.as_json() for each in found]})
    else:
        printing.page(schedules_page(found))


def show(name: Name, as_json: options.AsJson = False, project: Project = None) -> None:
    """Show a schedule with its next due times, in its zone and in UTC."""
    from agentflow.cli.schedule_page import schedule_page

    with opened() as flow:
        report = flow.schedules.get(name, project=project)
    if as_json:
        printing.print_json(report.as_json())
    else:
        printing.page(schedule_page(report))


def pause(name: Name, as_json: options.AsJson = False, project: Project = None) -> None:
    """Stop a schedule. What waits is skipped, runs that began go on; nothing of this time is caught up with."""
    with opened() as flow:
        skipped = flow.schedules.pause(name, project=project)
    if as_json:
        _print_acted(name, "pause", is_changed=skipped is not None, skipped=skipped or 0)
    elif skipped is None:
        print(f"Schedule {name} was stopped already.")
    else:
        print(f"Schedule {name} is stopped" + (f"; {skipped} that waited were skipped." if skipped else "."))


def resume(name: Name, as_json: options.AsJson = False, project: Project = None) -> None:
    """Let a schedule fire again, from its next due time on."""
    with opened() as flow:
        is_changed = flow.schedules.resume(name, project=project)
    if as_json:
        _print_acted(name, "resume", is_changed=is_changed)
    else:
        print(f"Schedule {name} " + ("fires again." if is_changed else "is not stopped."))


def run_now(name: Name, as_json: options.AsJson = False, project: Project = None) -> None:
    """Fire a schedule now, due or not, also one that is stopped. Its overlap holds."""
    from agentflow.cli.schedule_page import fired_line

    with opened() as flow:
        firing = flow.schedules.run_now(name, project=project)
    if as_json:
        printing.print_json({"schema": "agentflow.firing/1", "name": name, **firing.as_json()})
    else:
        print(fired_line(firing))


def backfill(
    name: Name,
    since: Since,
    until: Until = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which due times would be queued.")] = False,
    as_json: options.AsJson = False,
    project: Project = None,
) -> None:
    """Fire the due times of the past that have no run, the oldest first, one after the other."""
    with opened() as flow, naming(BACKFILL):
        filled = flow.schedules.backfill(name, since, until, project=project, is_dry=dry_run)
    if as_json:
        _print_backfill(name, filled)
        return
    from agentflow.cli.schedule_page import backfill_page

    printing.page(backfill_page(name, filled))


def delete(name: Name, as_json: options.AsJson = False, project: Project = None) -> None:
    """Forget a schedule and its history. Its runs stay, also those that have not ended."""
    with opened() as flow:
        flow.schedules.delete(name, project=project)
    if as_json:
        _print_acted(name, "delete", is_changed=True)
    else:
        print(f"Schedule {name} is deleted; its runs stay.")


def history(
    name: Name,
    limit: Annotated[int, typer.Option("--limit", "-n", help="How many.")] = 20,
    cursor: Annotated[str | None, typer.Option("--cursor", help="Go on after a page: its next_cursor.")] = None,
    as_json: options.AsJson = False,
    project: Project = None,
) -> None:
    """Show what became of the due times of a schedule, the latest first."""
    from agentflow.cli.schedule_page import history_page

    with opened() as flow:
        page = flow.schedules.history(name, limit=limit, cursor=cursor, project=project)
    if as_json:
        printing.print_json(page.as_json())
    else:
        printing.page(history_page(page))


def _print_acted(name: str, verb: str, *, is_changed: bool, skipped: int = 0) -> None:
    head = {"schema": "agentflow.schedule-acted/1", "name": name, "verb": verb}
    printing.print_json(head | {"is_changed": is_changed, "skipped": skipped})


def _print_backfill(name: str, filled: Backfilled) -> None:
    from agentflow.storage.view_shapes import moment

    times = {"queued": [moment(due) for due in filled.queued], "existing": [moment(due) for due in filled.existing]}
    printing.print_json({"schema": "agentflow.backfill/1", "name": name, "is_dry": filled.is_dry} | times)
