"""The page that lists dead letters. The figures are the storage's."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from agentflow.cli import words
from agentflow.storage.dead_letters import DeadLetters

ROOM = 100
"""How many dead letters the page lists; ``--json`` has more."""


def dead_letters_page(found: DeadLetters) -> RenderableType:
    """Return the page."""
    if not found.letters:
        return Text("There are no dead letters.")
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("run", "plan", "step", "lost", "since", "last workers", "run is"):
        table.add_column(column, no_wrap=True)
    for letter in found.letters[:ROOM]:
        cells = (
            words.short_id(letter.run_id),
            letter.name,
            letter.step,
            str(letter.losses),
            words.moment(letter.since),
            ", ".join(letter.workers),
            letter.run_state.value,
        )
        table.add_row(*(Text(words.printable(cell)) for cell in cells))
    more = found.total - len(found.letters[:ROOM])
    hint = Text("Mend what killed the workers, then: agentflow dead-letters replay RUN STEP", "dim")
    return Group(table, *([Text(f"and {more} more", "dim")] if more > 0 else []), hint)
