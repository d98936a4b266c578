"""The page that tells why a run or a step is where it is.

Owns what stands on it and how much of it; ``--json`` has all. The words are domain/why_words.py's.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group as Page
from rich.console import RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from agentflow.cli import words
from agentflow.domain.why import Group, Why
from agentflow.domain.why_words import advice, sentence, sentence_of_group
from agentflow.domain.wording import listing
from agentflow.engine.why import Explanation

ROOM = 50
"""How many reasons of steps the page lists."""
STEPS_NAMED = 6


def why_page(explained: Explanation) -> Page:
    """Return the page."""
    short = words.short_id(explained.run_id)
    state = explained.state.value
    subject = f"{explained.step}" if explained.step else "it"
    head = Text.assemble((short, "cyan"), "  ", (state, words.STATE_STYLES[state]))
    line = Text(f"{words.printable(subject)} {words.printable(sentence(explained.why))}.")
    return Page(head, line, *_advice(explained.why, short), *_steps(explained, short))


def _advice(why: Why, short: str) -> Iterator[RenderableType]:
    told = advice(why)
    if told:
        yield Padding(Text(words.printable(told.replace("{run}", short)), "dim"), (0, 0, 0, 2), expand=False)


def _steps(explained: Explanation, short: str) -> Iterator[RenderableType]:
    if not explained.groups:
        return
    yield Text()
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(max_width=36)
    table.add_column()
    for group in explained.groups[:ROOM]:
        table.add_row(Text(words.printable(_named(group)), "bold"), _told(group, short))
    yield table
    if len(explained.groups) > ROOM:
        yield Text(f"and {words.count(len(explained.groups) - ROOM, 'more reason')}", "dim")


def _named(group: Group) -> str:
    named = listing(group.steps[:STEPS_NAMED])
    more = group.count - min(len(group.steps), STEPS_NAMED)
    return f"{named} and {more:,} more" if more else named


def _told(group: Group, short: str) -> Text:
    text = Text(words.printable(sentence_of_group(group)))
    told = advice(group.why)
    return text.append(f"\n{words.printable(told.replace('{run}', short))}", "dim") if told else text
