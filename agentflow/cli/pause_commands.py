"""The verbs that let runs rest and go on: ``pause`` and ``resume``, for one run, for many, and for everything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentflow.cli import choosing, options, printing
from agentflow.cli.choosing import Choice
from agentflow.cli.draining import Draining, Standing
from agentflow.cli.opening import opened, read_seconds

if TYPE_CHECKING:
    from agentflow.client import AgentFlow, Run

Now = Annotated[bool, typer.Option("--now", help="End what runs and give it back: it spends no retry.")]
Why = Annotated[str | None, typer.Option("--why", metavar="TEXT", help="What to tell whoever finds it paused.")]
Wait = Annotated[bool, typer.Option("--wait", help="Wait until nothing of it runs any more.")]
Timeout = Annotated[str | None, typer.Option("--timeout", metavar="DURATION", help="How long to wait: 90s, 5m, 1h30m.")]
MAINTENANCE_SCHEMA = "agentflow.maintenance/1"


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    for verb in (pause, resume):
        app.command(rich_help_panel=options.RUNS)(verb)


def pause(
    run_reference: choosing.RunOrFilter = None,
    now: Now = False,
    why: Why = None,
    wait: Wait = False,
    timeout: Timeout = None,
    state: choosing.State = None,
    name: choosing.Name = None,
    everything: choosing.Everything = False,
    dry_run: choosing.DryRun = False,
    as_json: options.AsJson = False,
    project: choosing.Project = None,
) -> None:
    """Let a run rest: nothing of it starts until it is resumed, what runs may finish. Or every run that is chosen.

    With --all everything is under maintenance: what is submitted meanwhile is accepted and rests.
    """
    choice = Choice(run_reference, state, name, project, everything)
    with opened() as flow:
        asked = _Pausing(flow, now, why, Draining(flow, wait, read_seconds(timeout)), as_json)
        if dry_run:
            choosing.list_only(choice.runs(flow, "pause"), "pause", as_json=as_json)
        elif everything:
            asked.pause_everything()
        elif run_reference is not None:
            asked.pause_one(choice.runs(flow, "pause")[0])
        else:
            raise typer.Exit(asked.pause_many(choice.runs(flow, "pause")))


@dataclass(frozen=True, slots=True)
class _Pausing:
    flow: AgentFlow
    is_hard: bool
    why: str | None
    draining: Draining
    as_json: bool

    def pause_one(self, run: Run) -> None:
        answer = self._pause(run)
        waited = self.draining.wait(Standing("It is paused all the same.", [run]))
        told = _drained(answer, waited)
        if self.as_json:
            printing.print_json(run.refresh().summary.as_json() | told)
            return
        from agentflow.cli.words import short_id

        short = short_id(run.id)
        print(f"Run {short} {'is paused' if told['is_new'] else 'was paused before'}; {_still(told)}.")
        if told["running"]:
            print(f"  know when that has ended: agentflow pause {short} --wait")
        print(f"  let it go on: agentflow resume {short}")

    def pause_many(self, runs: Sequence[Run]) -> int:
        paused: list[Run] = []

        def do(run: Run) -> dict[str, Any]:
            answer = self._pause(run)
            paused.append(run)
            return answer

        def finish() -> None:
            from agentflow.cli.words import count

            what = "1 run is" if len(paused) == 1 else f"{count(len(paused), 'run')} are"
            waited = self.draining.wait(Standing(f"{what} paused all the same.", paused))
            if waited is not None and not self.as_json:
                print(f"Drained after {waited:.1f} s.")

        return choosing.act(runs, "pause", do, _paused, as_json=self.as_json, finish=finish)

    def pause_everything(self) -> None:
        begun = self.flow.pause_all(now=self.is_hard, why=self.why)
        answer = {"is_new": begun.is_new, "paused": begun.paused, "running": begun.running}
        stands = f"Everything is under maintenance all the same: {begun.paused:,} newly paused."
        told = _drained(answer, self.draining.wait(Standing(stands, None)))
        if self.as_json:
            printing.print_json({"schema": MAINTENANCE_SCHEMA, "stands": True} | told)
            return
        from agentflow.cli.words import count

        print(f"Everything is under maintenance: {count(begun.paused, 'run')} paused, {_still(told)}.")
        if told["running"]:
            print("  know when that has ended: agentflow pause --all --wait")
        print("  let all go on: agentflow resume --all")

    def _pause(self, run: Run) -> dict[str, Any]:
        asked = run.pause(now=self.is_hard, why=self.why)
        return {"is_new": asked.is_new, "running": asked.running}


def _drained(answer: Mapping[str, Any], waited: float | None) -> dict[str, Any]:
    running = answer["running"] if waited is None else 0
    return {**answer, "running": running, "drained": not running, "waited_seconds": waited}


def _still(told: Mapping[str, Any]) -> str:
    from agentflow.cli.words import count

    if told["running"]:
        return f"{count(told['running'], 'attempt')} still {'runs' if told['running'] == 1 else 'run'}"
    waited = told["waited_seconds"]
    return "nothing of it runs" if waited is None else f"nothing runs any more, after {waited:.1f} s"


def _paused(_run: Run, answer: Mapping[str, Any]) -> str:
    told = _still({**answer, "waited_seconds": None})
    return f"{'paused' if answer['is_new'] else 'was paused before'}, {told}"


def resume(
    run_reference: choosing.RunOrFilter = None,
    state: choosing.State = None,
    name: choosing.Name = None,
    everything: choosing.Everything = False,
    dry_run: choosing.DryRun = False,
    as_json: options.AsJson = False,
    project: choosing.Project = None,
) -> None:
    """Let a run go on that is paused, or rests over a budget: its own must have been raised before. Or many runs.

    With --all the maintenance ends; what a person paused, or what rests over a budget, rests on.
    """
    choice = Choice(run_reference, state, name, project, everything)
    with opened() as flow:
        if everything and not dry_run:
            _resume_everything(flow, as_json=as_json)
            return
        found = choice.runs(flow, "resume")
        if everything:
            found = [run for run in found if _is_maintained(run)]
        if dry_run:
            choosing.list_only(found, "resume", as_json=as_json)
        elif run_reference is None:
            raise typer.Exit(choosing.act(found, "resume", _resume, _resumed, as_json=as_json))
        else:
            _resume_one(found[0], as_json=as_json)


def _is_maintained(run: Run) -> bool:
    return run.state == "paused" and ((run.reason or {}).get("detail") or {}).get("scope") == "maintenance"


def _resume(run: Run) -> dict[str, Any]:
    return {"due": list(run.resume().ready)}


def _resumed(run: Run, answer: Mapping[str, Any]) -> str:
    from agentflow.domain.state import is_final
    from agentflow.domain.wording import listing

    if is_final(run.state):
        return f"is {run.state}: everything of it had ended while it rested"
    return f"goes on with {listing(answer['due'])}" if answer["due"] else "goes on"


def _resume_one(found: Run, *, as_json: bool) -> None:
    answer = _resume(found)
    if as_json:
        printing.print_json(found.summary.as_json() | answer)
        return
    from agentflow.cli.words import short_id
    from agentflow.domain.state import is_final

    print(f"Run {short_id(found.id)} {_resumed(found, answer)}.")
    if not is_final(found.state):
        print(f"  follow: agentflow watch {short_id(found.id)}")


def _resume_everything(flow: AgentFlow, *, as_json: bool) -> None:
    ended = flow.resume_all()
    if as_json:
        answer = {"is_new": ended.is_new, "resumed": ended.resumed}
        printing.print_json({"schema": MAINTENANCE_SCHEMA, "stands": False} | answer)
        return
    from agentflow.cli.words import count

    what = "The maintenance is over" if ended.is_new else "No maintenance stood"
    print(f"{what}: {count(ended.resumed, 'run')} resumed.")
