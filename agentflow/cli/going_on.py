"""What follows once a verb has made a run, or was given one: it is told, and followed until it has ended or rests.

Owns the head that ``--detach`` prints, and the word that Ctrl-C left the run going.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from agentflow.cli import exit_codes, printing

if TYPE_CHECKING:
    from agentflow.client import Run


def go_on(
    made: Run, what: str, *, detach: bool, as_json: bool, events: bool, more: Mapping[str, object] | None = None
) -> int:
    """Tell of a run that was made and follow it, unless ``detach``; returns the exit code.

    ``what`` says in words how it came about; ``more`` stands beside ``existing`` in the JSON.
    """
    told = {"existing": made.existing, **(more or {})}
    head = made.summary.head_json() | told
    if not made.is_sent:
        printing.note("Redis takes no messages now: the run is kept and starts once Redis is back.")
    if events or (detach and as_json):
        printing.print_json(head, is_line=events and not detach)
    elif not as_json:
        summary = made.summary
        print(f"Run {made.id} {what} ({summary.plan_name}, project {summary.project})", flush=True)
    if not detach:
        return follow_run(made, as_json=as_json, events=events, more=told)
    if not (as_json or events):
        print(_next_word(made))
    return exit_codes.COMPLETED


def _next_word(made: Run) -> str:
    """What is to be done about a run that goes on by itself, or rests because everything does."""
    from agentflow.cli.words import reason
    from agentflow.domain.state import ShownRunState

    if ((made.reason or {}).get("detail") or {}).get("scope") == "maintenance":
        return f"  it rests: everything is {reason(made.reason)}\n  let all go on: agentflow resume --all"
    waits = f"  it waits for somebody: agentflow gates {made.id[:8]}\n" if made.state is ShownRunState.WAITING else ""
    return f"{waits}  follow: agentflow watch {made.id[:8]}"


def watch_run(found: Run) -> int:
    """Watch a run at a terminal, with keys; returns the exit code of its state."""
    from agentflow.cli.watching import watch

    try:
        return watch(found)
    except KeyboardInterrupt:
        return _detached(found)


def follow_run(found: Run, *, as_json: bool, events: bool, more: Mapping[str, object] | None = None) -> int:
    """Follow a run until it has ended or rests; returns the exit code of its state."""
    from agentflow.cli.following import follow

    try:
        follow(found, is_quiet=as_json, as_events=events)
    except KeyboardInterrupt:
        return _detached(found)
    if as_json or events:
        printing.print_json(found.as_json() | dict(more or {}), is_line=events)
    return exit_codes.of_state(found.state)


def _detached(found: Run) -> int:
    short = found.id[:8]
    printing.note(
        f"\nDetached; the run goes on.\n  follow: agentflow watch {short}\n  cancel: agentflow cancel {short}"
    )
    return exit_codes.INTERRUPTED
