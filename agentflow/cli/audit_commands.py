"""The verbs about the audit: ``audit show``, ``audit verify`` and ``audit key``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import typer

from agentflow.cli import exit_codes, options, printing
from agentflow.cli.opening import opened

if TYPE_CHECKING:
    from rich.table import Table

    from agentflow.client import AgentFlow, EventView
    from agentflow.domain.chain_check import Finding
    from agentflow.engine.verify import VerificationReport

OptionalRun = Annotated[
    str | None,
    typer.Argument(metavar="[RUN]", help="A run: its id (also of one that was removed), a unique prefix, or @last."),
]
Every = Annotated[
    bool,
    typer.Option("--all", help="Every run that has rows or events, what is no run's, and the signed checkpoints."),
]
Installation = Annotated[
    bool, typer.Option("--installation", help="What is no run's: schedules, stored plans, maintenance, prunings.")
]
Checkpoints = Annotated[
    list[Path] | None,
    typer.Option(
        "--checkpoints", metavar="FILE", help="A file of signed checkpoints, such as a copy kept elsewhere; repeatable."
    ),
]
PublicKeys = Annotated[
    list[str] | None,
    typer.Option(
        "--public-key", metavar="HEX", help="Who may have signed them; else the key that is here. Repeatable."
    ),
]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    audit = typer.Typer(no_args_is_help=True, help="Show and verify the audit.")
    for verb in (show, verify, key):
        audit.command()(verb)
    app.add_typer(audit, name="audit", rich_help_panel=options.FILES)


def show(
    run_reference: OptionalRun = None,
    installation: Installation = False,
    as_json: options.AsJson = False,
    project: options.Project = None,
) -> None:
    """Show who moved what of a run, and why, in the order of writing; or what was done outside of runs."""
    from agentflow.domain.error import UsageError
    from agentflow.domain.ids import INSTALLATION_CHAIN

    if (run_reference is None) != installation:
        raise UsageError("Give a run, or --installation.")
    with opened() as flow:
        if run_reference is None:
            named, events = str(INSTALLATION_CHAIN), flow.installation_events()
        else:
            found = flow.get(run_reference, project=project)
            named, events = found.id, list(found.events())
        if as_json:
            answer = {"schema": "agentflow.events/1", "run": named, "events": [event.as_json() for event in events]}
            printing.print_json(answer)
        else:
            printing.page(outside_table(events) if installation else events_table(events))


def key(as_json: options.AsJson = False) -> None:
    """Print the public key of the signed checkpoints, for whoever verifies them elsewhere."""
    from agentflow.domain.error import NotFound
    from agentflow.engine.sign import find_key
    from agentflow.settings import load_settings

    found = find_key(load_settings())
    if found is None:
        raise NotFound("There is no key of checkpoints here; the dispatcher that signs first makes one in its home.")
    if as_json:
        printing.print_json({"schema": "agentflow.audit-key/1", "id": found.id, "public_key": found.public})
    else:
        print(found.public)


def verify(
    run_reference: OptionalRun = None,
    every: Every = False,
    checkpoints: Checkpoints = None,
    public_keys: PublicKeys = None,
    as_json: options.AsJson = False,
    project: options.Project = None,
) -> None:
    """Check that nothing of the audit was altered, removed, added or cut; exit code 1 when something was."""
    from agentflow.domain.error import UsageError

    if (run_reference is None) != every:
        raise UsageError("Give a run, or --all.")
    if run_reference is not None and (checkpoints or public_keys):
        raise UsageError("Checkpoints are verified with --all.")
    with opened() as flow:
        answers = []
        is_intact = True
        for report in _reports(flow, run_reference, project):
            is_intact = is_intact and report.is_intact
            if as_json:
                answers.append(_as_json(report))
            else:
                _print(report, str(report.run_id), has_good_news=not every)
        more = _verify_outside(flow, checkpoints or [], public_keys or [], as_json=as_json) if every else _Outside()
        is_intact = is_intact and more.is_intact
        if as_json:
            answer = {"schema": "agentflow.audit-report/1", "is_intact": is_intact, "runs": answers}
            printing.print_json(answer | dict(more.answer))
        elif every and is_intact:
            print(f"The audit of every run and that of the installation are intact; {more.words}.")
    raise typer.Exit(exit_codes.COMPLETED if is_intact else exit_codes.FAILED)


@dataclass(frozen=True)
class _Outside:
    """What was found beside the runs."""

    is_intact: bool = True
    answer: Mapping[str, Any] = field(default_factory=dict)
    words: str = ""


def _verify_outside(flow: AgentFlow, files: Sequence[Path], keys: Sequence[str], *, as_json: bool) -> _Outside:
    """Check the installation's own chain and the signed checkpoints."""
    from agentflow.cli.words import count
    from agentflow.engine.verify import verify_installation
    from agentflow.engine.verify_checkpoints import verify_checkpoints

    own, signed = verify_installation(flow.context), verify_checkpoints(flow.context, files, keys)
    if not as_json:
        _print(own, "installation", has_good_news=False)
        for run_id, finding in signed.findings:
            print(f"{run_id or 'checkpoints'}: {finding.code}: {finding.message}")
    answer = {
        "installation": {"events": own.events, "findings": [_finding(each) for each in own.findings]},
        "checkpoints": {
            "files": [str(path) for path in signed.files],
            "checkpoints": signed.checkpoints,
            "leaves": signed.leaves,
            "unchecked": signed.unchecked,
            "findings": [{"run": run_id and str(run_id)} | _finding(finding) for run_id, finding in signed.findings],
        },
    }
    words = f"signed checkpoints were not checked: {signed.unchecked}"
    if signed.unchecked is None:
        words = f"so are the signed checkpoints: {signed.checkpoints} with {count(signed.leaves, 'end')}"
    return _Outside(own.is_intact and signed.is_intact, answer, words)


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
    findings = [_finding(each) for each in report.findings]
    return {"run": str(report.run_id), "events": report.events, "findings": findings}


def _finding(each: Finding) -> dict[str, Any]:
    return {"code": str(each.code), "message": each.message, "step": each.step, "sequence": each.sequence}


def _print(report: VerificationReport, named: str, *, has_good_news: bool) -> None:
    from agentflow.cli.words import count, short_id

    for each in report.findings:
        place = f" step {each.step}" if each.step else ""
        place += f" event {each.sequence}" if each.sequence is not None else ""
        print(f"{named}{place}: {each.code}: {each.message}")
    if report.is_intact and has_good_news:
        print(f"The audit of run {short_id(report.run_id)} holds: {count(report.events, 'event')}.")


def outside_table(events: list[EventView]) -> Table:
    """Return what was done outside of runs as a person reads it."""
    from rich.table import Table
    from rich.text import Text

    from agentflow.cli import words

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("at (UTC)", "actor", "action", "what"):
        table.add_column(column, no_wrap=column != "what", overflow="fold")
    table.add_column("facts", overflow="fold")
    for event in events:
        facts = ", ".join(f"{name} {value}" for name, value in event.facts.items())
        told = "; ".join(filter(None, (words.reason(event.reason), facts)))
        cells = (words.moment(event.at), event.actor, event.action, event.subject, told)
        table.add_row(*(Text(words.printable(cell)) for cell in cells))
    return table


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
