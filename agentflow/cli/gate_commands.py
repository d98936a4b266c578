"""The verbs of the people whom runs wait for: ``gates``, ``approve`` and ``reject``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from agentflow.cli import options, printing
from agentflow.cli.opening import opened, opened_run

if TYPE_CHECKING:
    from agentflow.client import Run
    from agentflow.engine.decide import Decided

OptionalRun = Annotated[
    str | None, typer.Argument(metavar="[RUN]", help="Only of a run: its id, a unique prefix, or @last.")
]
OptionalStep = Annotated[
    str | None, typer.Argument(metavar="[STEP]", help="The step whose gate it is, where several are open.")
]
Mine = Annotated[bool, typer.Option("--mine", help="Only those that you may approve, and have not yet.")]
Why = Annotated[str | None, typer.Option("--why", metavar="TEXT", help="What to tell: it stands in the audit.")]
Because = Annotated[str, typer.Option("--why", metavar="TEXT", help="What to tell: it stands in the audit.")]
Set = Annotated[
    list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A field of the gate's form; repeatable.")
]
GATES_SCHEMA = "agentflow.gates/1"


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    for verb in (gates, approve, reject):
        app.command(rich_help_panel=options.RUNS)(verb)


def gates(
    run_reference: OptionalRun = None,
    mine: Mine = False,
    as_json: options.AsJson = False,
    project: options.Project = None,
) -> None:
    """List the gates that wait for a decision: what they ask, of whom, how many are missing, and until when."""
    with opened(is_read=True) as flow:
        run = None if run_reference is None else flow.get(run_reference, project=project)
        found = flow.gates(run, project=project, mine=mine)
        if as_json:
            printing.print_json({"schema": GATES_SCHEMA, "gates": [view.as_json() for view in found]})
            return
        from agentflow.cli.gates_page import gates_page

        printing.page(gates_page(found))


def approve(
    run_reference: options.RunReference,
    step: OptionalStep = None,
    why: Why = None,
    given: Set = None,
    as_json: options.AsJson = False,
    project: options.Project = None,
) -> None:
    """Approve a gate that a run waits at. The last approval that it needs lets the run go on."""
    form = _read_form(given)
    with opened_run(run_reference, project) as found:
        _tell(found, found.approve(step, why=why, form=form), as_json=as_json)


def reject(
    run_reference: options.RunReference,
    why: Because,
    step: OptionalStep = None,
    as_json: options.AsJson = False,
    project: options.Project = None,
) -> None:
    """Reject a gate that a run waits at: one rejection fails its step, or sends the run back where the plan says so."""
    with opened_run(run_reference, project) as found:
        _tell(found, found.reject(step, why=why), as_json=as_json)


def _read_form(written: Sequence[str] | None) -> dict[str, str]:
    from agentflow.domain.error import UsageError

    form = {}
    for each in written or ():
        name, equals, value = each.partition("=")
        if not equals or not name:
            raise UsageError(f"--set takes NAME=VALUE, not {each!r}.")
        form[name] = value
    return form


def _tell(run: Run, decided: Decided, *, as_json: bool) -> None:
    if as_json:
        printing.print_json(run.summary.as_json() | {"decided": decided.as_json()})
        return
    from agentflow.cli.words import printable, short_id

    short = short_id(run.id)
    print(printable(f"Gate {decided.step} of run {short} {_words(decided)}."))
    print(f"  follow: agentflow watch {short}" if decided.state != "open" else f"  see: agentflow gates {short}")


def _words(decided: Decided) -> str:
    from agentflow.domain.wording import listing

    by = listing(decided.approved_by)
    ready = f"; {listing(decided.ready)} go{'es' if len(decided.ready) == 1 else ''} on" if decided.ready else ""
    if decided.state == "open":
        said = "has your approval" if decided.is_new else "had your approval before: nothing was changed"
        return f"{said}; {len(decided.approved_by)} of {decided.count} given ({by})"
    if decided.state == "rejected":
        return f"is rejected{ready}"
    return f"is approved by {by}{ready}"
