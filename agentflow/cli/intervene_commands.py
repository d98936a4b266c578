"""The verbs by which a person steers a run: ``override``, ``modify``, ``guide`` and ``abort``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from agentflow.cli import options, printing
from agentflow.cli.budget_commands import read_more
from agentflow.cli.opening import opened_run

if TYPE_CHECKING:
    from agentflow.client import Run

StepArgument = Annotated[str, typer.Argument(metavar="STEP", help="A step of the run that has not run.")]
OptionalStep = Annotated[str | None, typer.Argument(metavar="[STEP]", help="A step of the run that has not run.")]
Why = Annotated[str, typer.Option("--why", metavar="TEXT", help="Why: it stands in the audit.")]
OptionalWhy = Annotated[str | None, typer.Option("--why", metavar="TEXT", help="Why: it stands in the audit.")]
SkipIt = Annotated[bool, typer.Option("--skip", help="It is not done; what needs it is decided by its `when`.")]
SucceedIt = Annotated[bool, typer.Option("--succeed", help="It counts as done.")]
Result = Annotated[
    str | None, typer.Option("--result", metavar="JSON|@FILE", help="With --succeed: what later steps read of it.")
]
Label = Annotated[str | None, typer.Option("--choose", metavar="LABEL", help="What a decision takes.")]
More = Annotated[
    list[str] | None,
    typer.Option("--budget", metavar="KIND=+N", help="Add to the run's steps, tokens, usd or active_time; repeatable."),
]
StepTimeout = Annotated[str | None, typer.Option("--timeout", metavar="DURATION", help="How long an attempt may take.")]
Priority = Annotated[int | None, typer.Option("--priority", metavar="0-9", help="Higher goes first; 0 is the usual.")]
Text = Annotated[str, typer.Argument(metavar="TEXT|@FILE", help="What the next model call is told.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    for verb in (override, modify, guide, abort):
        app.command(rich_help_panel=options.RUNS)(verb)


def override(
    run_reference: options.RunReference,
    step: StepArgument,
    why: Why,
    skip: SkipIt = False,
    succeed: SucceedIt = False,
    result: Result = None,
    choose: Label = None,
    as_json: options.AsJson = False,
    project: options.Project = None,
) -> None:
    """Set a step that has not run: skip it, let it succeed with a result, or choose for a decision."""
    given = None if result is None else _read_json(result)
    with opened_run(run_reference, project) as found:
        done = found.override(step, why=why, skip=skip, succeed=succeed, result=given, choose=choose)
        if as_json:
            moved = {"from": done.old_state.value, "to": done.new_state.value}
            _print_json(found, "override", done.step, moved | {"ready": list(done.ready)})
            return
        from agentflow.domain.wording import listing

        print(f"Step {done.step} is {done.new_state.value}, {done.old_state.value} before.")
        if done.ready:
            print(f"  ready by that: {listing(done.ready)}")
        _follow(found)


def modify(
    run_reference: options.RunReference,
    why: Why,
    step: OptionalStep = None,
    budget: More = None,
    timeout: StepTimeout = None,
    priority: Priority = None,
    as_json: options.AsJson = False,
    project: options.Project = None,
) -> None:
    """Change what has not run: add to the budget of a run, set its priority, or a step's timeout and priority."""
    more = read_more(budget)
    with opened_run(run_reference, project) as found:
        done = found.modify(step, why=why, timeout=timeout, priority=priority, **more)
        if as_json:
            changes = [{"what": name, "before": old, "after": new} for name, (old, new) in _told(done.changes)]
            _print_json(found, "modify", step, {"changes": changes})
            return
        whose = f"Step {step}" if step else f"Run {found.id[:8]}"
        for name, (old, new) in _told(done.changes):
            print(f"{whose} has {_amount(name, new)} now, {_amount(name, old)} before.")
        if not done.changes:
            print(f"{whose} has that already.")
        _follow(found)


def guide(
    run_reference: options.RunReference,
    text: Text,
    step: options.StepOption = None,
    why: OptionalWhy = None,
    as_json: options.AsJson = False,
    project: options.Project = None,
) -> None:
    """Tell the next model call of a run something, or that of a step. The text is kept as content, in no row or log."""
    said = _read_text(text)
    with opened_run(run_reference, project) as found:
        guided = found.guide(said, step=step, why=why)
        if as_json:
            _print_json(found, "guide", guided.step, {"sha256": guided.sha256, "bytes": guided.bytes})
            return
        from agentflow.cli.words import count

        whose = f"The next call of step {step}" if step else f"The next model call of run {found.id[:8]}"
        print(f"{whose} is told {count(guided.bytes, 'byte')} ({guided.sha256[:12]}).")
        _follow(found)


def abort(
    run_reference: options.RunReference,
    why: Why,
    as_json: options.AsJson = False,
    project: options.Project = None,
) -> None:
    """Stop a run now and keep it, as `pause --now` does: what runs is ended and given back, and spends no retry."""
    with opened_run(run_reference, project) as found:
        asked = found.abort(why=why)
        if as_json:
            _print_json(found, "abort", None, {"is_new": asked.is_new, "running": asked.running})
            return
        from agentflow.cli.words import count

        print(f"Run {found.id[:8]} is stopped: {count(asked.running, 'attempt')} told to give back what runs.")
        print(f"  let it go on: agentflow resume {found.id[:8]}\n  end it: agentflow cancel {found.id[:8]}")


def _print_json(found: Run, verb: str, step: str | None, answer: dict[str, Any]) -> None:
    head = {"schema": "agentflow.intervention/1", "verb": verb, "run": found.id, "state": found.state.value}
    printing.print_json(head | {"step": step, "answer": answer})


def _follow(found: Run) -> None:
    print(f"  follow: agentflow watch {found.id[:8]}")


def _told(changes: Any) -> list[tuple[str, tuple[Any, Any]]]:
    """The changes by the names that a person writes, usd in dollars."""
    from agentflow.domain.budget import usd_of

    told = []
    for name, (old, new) in changes.items():
        is_usd = name == "usd_nano"
        written = {"usd_nano": "usd", "active_seconds": "active_time", "timeout_seconds": "timeout"}.get(name, name)
        told.append((written, (usd_of(old), usd_of(new)) if is_usd else (old, new)))
    return told


def _amount(name: str, value: float) -> str:
    from agentflow.cli import words

    if name == "timeout":
        return f"a timeout of {words.duration(value)}"
    return f"priority {value}" if name == "priority" else words.amount(name, value)


def _read_json(written: str) -> Any:
    """Read JSON, or the file behind ``@`` that holds it. UsageError, which quotes nothing of it, for anything else."""
    import json

    from agentflow.domain.error import UsageError

    text = _read_text(written)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise UsageError("--result is no JSON: a text is written in quotes, '\"like this\"'.") from None


def _read_text(written: str) -> str:
    """Return a text, or that of the file behind ``@``; a file of at most a few times what may be kept is read."""
    from agentflow.domain.error import UsageError
    from agentflow.domain.override import MAX_RESULT_BYTES

    if not written.startswith("@"):
        return written
    try:
        with Path(written[1:]).open("rb") as file:
            return file.read(2 * MAX_RESULT_BYTES).decode()
    except OSError as error:
        raise UsageError(f"The file {written[1:]!r} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise UsageError(f"The file {written[1:]!r} is no UTF-8 text.") from None
