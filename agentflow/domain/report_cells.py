"""What the page of a report is made of: cells, lines, tables, sections; before it is Markdown or HTML.

Owns the shapes and how times, reasons and names are written in them. Nothing in a cell is markup.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from agentflow.domain.reason import sentence_of

ROOM = 200
"""How many rows a table has."""
_PIECE = re.compile(r"[^_\-/\]]{0,23}[_\-/\]]+|.{1,24}", re.DOTALL)
_SPACES = re.compile(r"(\s+)")
_SHORT = 16


class Kind(StrEnum):
    """What a cell holds: words, a name or hash as it is written, a figure, a state, a time."""

    TEXT = "text"
    CODE = "code"
    FIGURE = "figure"
    STATE = "state"
    MOMENT = "moment"


@dataclass(frozen=True, slots=True)
class Cell:
    """A piece of the page; nothing in it is markup. ``depth`` says in how many foreachs a step stands."""

    text: str
    kind: Kind = Kind.TEXT
    depth: int = 0


Line = tuple[Cell, ...]
"""One sentence: its pieces stand side by side."""


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under headings, and what is said of the rows that are left out."""

    headings: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str | None = None

    @property
    def columns(self) -> tuple[int, ...]:
        """The columns in which something stands."""
        return tuple(at for at in range(len(self.headings)) if any(row[at].text for row in self.rows))


@dataclass(frozen=True, slots=True)
class Section:
    """A heading with lines, tables or both."""

    title: str
    lines: tuple[Line, ...] = ()
    table: Table | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """The whole page. ``facts`` are its first table: a name and what it says each.

    ``figures`` and ``counts`` (steps by state) are for those who only glance at it: the facts have them too.
    """

    title: str
    name: str
    run: str
    state: str
    figures: tuple[tuple[str, str], ...]
    counts: tuple[tuple[str, int], ...]
    facts: tuple[tuple[str, Line], ...]
    sections: tuple[Section, ...]
    foot: str


def reason(stored: Mapping[str, Any] | None) -> str:
    """Return a reason in words, with what somebody gave as theirs; its code where this version knows no words."""
    if not stored:
        return ""
    try:
        words = sentence_of(stored)
    except ValueError:
        words = str(stored.get("code", ""))
    why = (stored.get("detail") or {}).get("why")
    return f"{words}: {why}" if why and str(why) not in words else words


def moment(at: datetime | None) -> str:
    """Return a time in UTC to the second; nothing for None."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if at else ""


def pieces(text: str) -> list[str]:
    """Cut a text where a line of it may break beside its spaces: within long names and hashes."""
    found = [""]
    for word in _SPACES.split(text):
        cut = _PIECE.findall(word) if len(word) > _SHORT else [word]
        found[-1] += cut[0]
        found += cut[1:]
    return found


def code(text: str) -> Cell:
    return Cell(text, Kind.CODE)


def at(when: datetime | None) -> Cell:
    return Cell(moment(when), Kind.MOMENT)


def room(rows: Sequence[tuple[Cell, ...]]) -> tuple[tuple[tuple[Cell, ...], ...], str | None]:
    left = len(rows) - ROOM
    return tuple(rows[:ROOM]), f"and {left:,} more, which the JSON has" if left > 0 else None


def note_of(parts: Iterable[str]) -> str | None:
    return "; ".join(parts) or None
