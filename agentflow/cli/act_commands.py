"""The verbs that act on runs: ``cancel``, ``resume`` and ``retry``. Each leaves an audit event with the actor."""

from __future__ import annotations

import typer

from agentflow.cli import options, printing
from agentflow.cli.opening import opened_run


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    for verb in (cancel, resume, retry):
        app.command(rich_help_panel=options.RUNS)(verb)


def cancel(
    run_reference: options.RunReference, as_json: options.AsJson = False, project: options.Project = None
) -> None:
    """End a run: what waits ends now, what runs is stopped with everything it started."""
    with opened_run(run_reference, project) as found:
        asked = found.cancel()
        if as_json:
            answer = {"is_new": asked.is_new, "stopping": asked.stopping}
            printing.print_json(found.summary.as_json() | answer)
            return
        from agentflow.cli.words import count, short_id

        short = short_id(found.id)
        if not asked.is_new:
            print(f"Run {short} is being cancelled already.")
        elif asked.stopping:
            print(f"Run {short} is being cancelled: {count(asked.stopping, 'running attempt')} told to stop.")
        else:
            print(f"Run {short} is {found.state}: nothing of it was running.")
        if asked.stopping:
            print(f"  know that it stopped: agentflow wait {short}")


def resume(
    run_reference: options.RunReference, as_json: options.AsJson = False, project: options.Project = None
) -> None:
    """Let a run go on that rests over a budget; its own must have been raised before: `agentflow budget raise`."""
    with opened_run(run_reference, project) as found:
        resumed = found.resume()
        if as_json:
            printing.print_json(found.summary.as_json() | {"due": list(resumed.ready)})
            return
        from agentflow.cli.words import short_id
        from agentflow.domain.state import is_final
        from agentflow.domain.wording import listing

        short = short_id(found.id)
        if is_final(found.state):
            print(f"Run {short} is {found.state}: everything of it had ended while it rested.")
            return
        print(f"Run {short} goes on{f' with {listing(resumed.ready)}' if resumed.ready else ''}.")
        print(f"  follow: agentflow watch {short}")


def retry(
    run_reference: options.RunReference,
    step: options.StepOption = None,
    as_json: options.AsJson = False,
    project: options.Project = None,
) -> None:
    """Take up what failed, was cancelled or is held, and what waited for it; what succeeded stays."""
    with opened_run(run_reference, project) as found:
        retried = found.retry(step)
        if as_json:
            answer = {"ready": list(retried.ready), "pending": list(retried.pending)}
            printing.print_json(found.summary.as_json() | answer)
            return
        from agentflow.cli.words import count, short_id
        from agentflow.domain.wording import listing

        short = short_id(found.id)
        print(f"Run {short} goes on with {listing(retried.ready) or 'nothing yet'}", end="")
        print(f"; {count(len(retried.pending), 'step')} wait for that." if retried.pending else ".")
        print(f"  follow: agentflow watch {short}")
