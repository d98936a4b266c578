"""The verbs about the audit: ``audit show`` and ``audit verify``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from agentflow.cli import exit_codes, options, printing
from agentflow.cli.opening import opened, opened_run

if TYPE_CHECKING:
    from rich.table import Table

    from agentflow.client import AgentFlow, EventView
    from agentflow.engine.verify import VerificationReport

OptionalRun = Annotated[
    str | None,
    typer.Argument(metavar="[RUN]", help="A run: its id (also of one that was removed), a unique prefix, or @last."),
]
Every = Annotated[bool, typer.Option("--all", help="Every run that has rows or events.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    audit = typer.Typer(no_args_is_help=True, help="Show and verify the audit of runs.")
    for verb in (show, verify):
        audit.command()(verb)
    app.add_typer(audit, name="audit", rich_help_panel=options.FILES)


def show(run_reference: options.RunReference, as_json: options.AsJson = False, project: options.Project = None) -> None:
    """Show who moved what of a run, and why, in the order of writing."""
    with opened_run(run_reference, project) as found:
        events = list(found.events())
        if as_json:
            answer = {"schema": "agentflow.events/1", "run": found.id, "events": [event.as_json() for event in events]}
            printing.print_json(answer)
        else:
            printing.page(events_table(events))


def verify(
    run_reference: OptionalRun = None,
    every: Every = False,
    as_json: options.AsJson = False,
    project: options.Project = None,
) -> None:
    """Check that nothing of the audit was altered, removed, added or cut; exit code 1 when something was."""
    from agentflow.domain.error import UsageError

    if (run_reference is None) != every:
        raise UsageError("Give a run, or --all.")
    with opened() as flow:
        answers = []
        is_intact = True
        for report in _reports(flow, run_reference, project):
            is_intact = is_intact and report.is_intact
            if as_json:
                answers.append(_as_json(report))
            else:
                _print(report, has_good_news=not every)
        if as_json:
            printing.print_json({"schema": "agentflow.audit-report/1", "is_intact": is_intact, "runs": answers})
        elif every and is_intact:
            print("The audit of every run holds.")
    raise typer.Exit(exit_codes.COMPLETED if is_intact else exit_codes.FAILED)


def _reports(flow: AgentFlow, reference: str | None, project: str | None) -> Iterator[VerificationReport]:
    from agentflow.domain.ids import RunId
    from agentflow.engine.verify import verify_all, verify_run

    if reference is None:
        yield from verify_all(flow.context)
        return
    try:
        run_id = RunId(UUID(reference))  # the rows of a run that was removed cannot be found, its events can
    except ValueError:
        run_id = RunId(flow.get(reference, project=project).uuid)
    yield verify_run(flow.context, run_id)


def _as_json(report: VerificationReport) -> dict[str, Any]:
    findings = [
        {"code": str(each.code), "message": each.message, "step": each.step, "sequence": each.sequence}
        for each in report.findings
    ]
    return {"run": str(report.run_id), "events": report.events, "findings": findings}


def _print(report: VerificationReport, *, has_good_news: bool) -> None:
    from agentflow.cli.words import count, short_id

    for each in report.findings:
        place = f" step {each.step}" if each.step else ""
        place += f" event {each.sequence}" if each.sequence is not None else ""
        print(f"{report.run_id}{place}: {each.code}: {each.message}")
    if report.is_intact and has_good_news:
        print(f"The audit of run {short_id(report.run_id)} holds: {count(report.events, 'event')}.")


def events_table(events: list[EventView]) -> Table:
    """Return the events as a person reads them."""
    from rich.table import Table
    from rich.text import Text

    from agentflow.cli import words

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("at (UTC)", "actor", "action", "moved"):
        table.add_column(column, no_wrap=column != "moved", overflow="fold")
    table.add_column("why", overflow="fold")
    for event in events:
        moved = (f"{what.removeprefix('step:')} {old or 'new'} -> {new}" for what, (old, new) in event.moved.items())
        at = words.moment(event.at) + f".{event.at.microsecond // 1000:03}"
        cells = (at, event.actor, event.action, ", ".join(moved), words.reason(event.reason))
        table.add_row(*(Text(words.printable(cell)) for cell in cells))
    return table
