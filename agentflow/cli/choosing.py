"""Naming one run or choosing many: the options that ``cancel``, ``pause``, ``resume`` and ``retry`` share.

Owns which of them go together, and how what became of many runs is told.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentflow.cli import exit_codes, printing

if TYPE_CHECKING:
    from agentflow.client import AgentFlow, Run
    from agentflow.client.bulk import Acted

RunOrFilter = Annotated[
    str | None,
    typer.Argument(metavar="[RUN]", help="A run: its id, a unique prefix, or @last. Or choose runs by the filters."),
]
State = Annotated[str | None, typer.Option("--state", help="All runs shown in this state.")]
Name = Annotated[str | None, typer.Option("--name", help="All runs of plans of this name.")]
Project = Annotated[str | None, typer.Option("--project", help="All runs of this project; with RUN: only of it.")]
All = Annotated[bool, typer.Option("--all", help="Every run that this can be done to.")]
Everything = Annotated[
    bool, typer.Option("--all", help="Maintenance: everything, and what is submitted while it stands.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only list the runs that it would be done to.")]
_WIDTH = 9


@dataclass(frozen=True, slots=True)
class Choice:
    """Which runs a command line means: one by its reference, or those that a filter finds."""

    reference: str | None
    state: str | None
    name: str | None
    project: str | None
    is_all: bool

    def __post_init__(self) -> None:
        from agentflow.domain.error import UsageError

        if self.reference is not None and (self.state or self.name or self.is_all):
            raise UsageError("Name a RUN, or choose runs with --state, --name and --project, or --all; not both.")
        if self.is_all and (self.state or self.name or self.project):
            raise UsageError("--all means every run: leave it away to choose with --state, --name and --project.")
        if not (self.reference or self.state or self.name or self.project or self.is_all):
            raise UsageError("Name a RUN, or choose runs: --state, --name, --project, or --all.")

    def runs(self, flow: AgentFlow, verb: str) -> list[Run]:
        """Find the runs that are meant."""
        from agentflow.client.bulk import select

        if self.reference is not None:
            return [flow.get(self.reference, project=self.project)]
        return select(flow, verb, state=self.state, project=self.project, name=self.name)


def list_only(runs: Sequence[Run], verb: str, *, as_json: bool) -> None:
    """Say to which runs a verb would be done."""
    if as_json:
        _print_json([run.summary.as_json() for run in runs], verb, is_dry=True)
        return
    from agentflow.cli.words import count

    print(f"Would {verb} {count(len(runs), 'run')}{':' if runs else '.'}")
    for run in runs:
        _print_line(run, str(run.state))


def act(
    runs: Sequence[Run],
    verb: str,
    do: Callable[[Run], Mapping[str, Any]],
    say: Callable[[Run, Mapping[str, Any]], str],
    *,
    as_json: bool,
    finish: Callable[[], None] = lambda: None,
) -> int:
    """Do a verb to each run, telling of it at once, then ``finish``; returns the exit code."""
    from agentflow.client.bulk import act_on_each

    if not runs and not as_json:
        print("No run is meant by that.")
    told: list[Acted] = []
    for acted in act_on_each(runs, do):
        told.append(acted)
        if not as_json:
            _print_line(acted.run, _words(acted, say))
    finish()
    if as_json:
        _print_json([each.as_json() for each in told], verb, is_dry=False)
    return exit_codes.FAILED if any(each.is_failure for each in told) else exit_codes.COMPLETED


def _words(acted: Acted, say: Callable[[Run, Mapping[str, Any]], str]) -> str:
    if acted.message is None:
        return say(acted.run, acted.answer)
    return f"{'changed meanwhile' if acted.outcome == 'changed' else acted.outcome}: {acted.message}"


def _print_line(run: Run, what: str) -> None:
    from agentflow.cli.words import printable, short_id

    print(printable(f"{short_id(run.id):<{_WIDTH}} {run.summary.plan_name}  {what}"), flush=True)


def _print_json(runs: list[dict[str, Any]], verb: str, *, is_dry: bool) -> None:
    printing.print_json({"schema": "agentflow.acted/1", "verb": verb, "is_dry_run": is_dry, "runs": runs})
