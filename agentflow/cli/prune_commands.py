"""The verb ``prune``: take runs out that ended long ago."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from agentflow.cli import options, printing
from agentflow.cli.opening import opened
from agentflow.cli.option_names import PRUNE, naming

if TYPE_CHECKING:
    from agentflow.engine.prune import Pruned
    from agentflow.storage.retention import Prunable

OlderThan = Annotated[
    str, typer.Option("--older-than", metavar="TIME", help="How long ago they ended at least, such as 30d; 2d or more.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")]
Limit = Annotated[int | None, typer.Option("--limit", metavar="N", help="At most so many runs, the oldest first.")]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command(rich_help_panel=options.FILES)(prune)


def prune(older_than: OlderThan, dry_run: DryRun = False, limit: Limit = None, as_json: options.AsJson = False) -> None:
    """Take out ended runs with their artifacts and events; tombstones and what they used stay."""
    from agentflow.client.retention import prunable_json, pruned_json

    with opened() as flow, naming(PRUNE):
        if dry_run:
            found = flow.prunable(older_than, limit=limit)
            printing.print_json(prunable_json(found)) if as_json else _tell_prunable(found)
            return
        pruned = flow.prune(older_than, limit=limit)
        printing.print_json(pruned_json(pruned)) if as_json else _tell_pruned(pruned)


def _tell_prunable(found: Prunable) -> None:
    from agentflow.cli.words import count, moment

    if found.first_ended_at is None or found.last_ended_at is None:
        print("Nothing ended so long ago.")
        return
    print(f"Would take out {count(found.runs, 'run')} with {count(found.artifact_bytes, 'byte')} of artifacts.")
    print(f"  ended from {moment(found.first_ended_at)} to {moment(found.last_ended_at)} UTC")


def _tell_pruned(pruned: Pruned) -> None:
    from agentflow.cli.words import count, moment

    if pruned.firings:
        print(f"Forgot {count(pruned.firings, 'firing')} of schedules.")
    if not pruned.tombstones:
        print("No run ended so long ago." if pruned.firings else "Nothing ended so long ago.")
        return
    ended = [each.ended_at for each in pruned.tombstones]
    print(f"Took out {count(len(ended), 'run')}, which had used {count(pruned.tokens, 'token')} and ${pruned.usd:.6f}.")
    print(f"  ended from {moment(min(ended))} to {moment(max(ended))} UTC")
