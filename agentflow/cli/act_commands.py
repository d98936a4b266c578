"""The verbs that end runs and take them up again: ``cancel`` and ``retry``. Each leaves an event with the actor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from agentflow.cli import choosing, options, printing
from agentflow.cli.choosing import Choice
from agentflow.cli.opening import opened

if TYPE_CHECKING:
    from agentflow.client import Run


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    for verb in (cancel, retry):
        app.command(rich_help_panel=options.RUNS)(verb)


def cancel(
    run_reference: choosing.RunOrFilter = None,
    state: choosing.State = None,
    name: choosing.Name = None,
    everything: choosing.All = False,
    dry_run: choosing.DryRun = False,
    as_json: options.AsJson = False,
    project: choosing.Project = None,
) -> None:
    """End a run: what waits ends now, what runs is stopped with everything it started. Or every run that is chosen."""
    choice = Choice(run_reference, state, name, project, everything)
    with opened() as flow:
        found = choice.runs(flow, "cancel")
        if dry_run:
            choosing.list_only(found, "cancel", as_json=as_json)
        elif run_reference is None:
            raise typer.Exit(choosing.act(found, "cancel", _cancel, _cancelled, as_json=as_json))
        else:
            _cancel_one(found[0], as_json=as_json)


def _cancel(run: Run) -> dict[str, Any]:
    asked = run.cancel()
    return {"is_new": asked.is_new, "stopping": asked.stopping, "child_runs": asked.child_runs}


def _cancelled(run: Run, answer: Mapping[str, Any]) -> str:
    if not answer["is_new"]:
        return "is being cancelled already"
    told = _stopping(answer)
    return f"{run.state}, {told}" if told else str(run.state)


def _stopping(answer: Mapping[str, Any]) -> str:
    """What else ends with a run."""
    from agentflow.cli.words import count

    below = answer["child_runs"]
    told = [f"{count(answer['stopping'], 'running attempt')} told to stop"] if answer["stopping"] else []
    told += [f"{count(below, 'child run')} cancelled with it"] if below else []
    return ", ".join(told)


def _cancel_one(found: Run, *, as_json: bool) -> None:
    answer = _cancel(found)
    if as_json:
        printing.print_json(found.summary.as_json() | answer)
        return
    from agentflow.cli.words import short_id
    from agentflow.domain.state import is_final

    short = short_id(found.id)
    if not answer["is_new"]:
        print(f"Run {short} is being cancelled already.")
    else:
        state = found.state if is_final(found.state) else "being cancelled"
        print(f"Run {short} is {state}: {_stopping(answer) or 'nothing of it was running'}.")
    if not is_final(found.state):
        print(f"  know that it stopped: agentflow wait {short}")


def retry(
    run_reference: choosing.RunOrFilter = None,
    step: options.StepOption = None,
    state: choosing.State = None,
    name: choosing.Name = None,
    everything: choosing.All = False,
    dry_run: choosing.DryRun = False,
    as_json: options.AsJson = False,
    project: choosing.Project = None,
) -> None:
    """Take up what failed, was cancelled or is held, and what waited for it; what succeeded stays.

    Chosen without --state are the failed and partial runs: a cancelled one, or a step that waits for a person, only by
    its name or state.
    """
    choice = Choice(run_reference, state, name, project, everything)
    if step is not None and run_reference is None:
        from agentflow.domain.error import UsageError

        raise UsageError("--step names a step of one RUN.")
    with opened() as flow:
        found = choice.runs(flow, "retry")
        if dry_run:
            choosing.list_only(found, "retry", as_json=as_json)
        elif run_reference is None:
            raise typer.Exit(choosing.act(found, "retry", _retry, _retried, as_json=as_json))
        else:
            _retry_one(found[0], step, as_json=as_json)


def _retry(run: Run, step: str | None = None) -> dict[str, Any]:
    retried = run.retry(step)
    return {"ready": list(retried.ready), "pending": list(retried.pending), "held": dict(retried.held)}


def _retried(_run: Run, answer: Mapping[str, Any]) -> str:
    from agentflow.cli.retry_words import taken_up

    return taken_up(answer["ready"], answer["pending"], answer["held"])


def _retry_one(found: Run, step: str | None, *, as_json: bool) -> None:
    answer = _retry(found, step)
    if as_json:
        printing.print_json(found.summary.as_json() | answer)
        return
    from agentflow.cli.words import short_id

    short = short_id(found.id)
    print(f"Run {short} {_retried(found, answer)}.")
    print(f"  follow: agentflow watch {short}")
