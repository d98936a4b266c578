"""Where the values of a document stand in its text, and how their scalars were spelled.

Owns the tree of marks and looking a path up in it. The parsers of YAML and JSON grow the tree.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from agentflow.domain.document import Path
from agentflow.domain.fault import Fault


@dataclass(slots=True)
class Mark:
    """One value: the line and column (from 1) where it, or the key it belongs to, begins; ``text`` of a scalar."""

    line: int
    column: int
    text: str | None = None
    children: dict[str | int, Mark] = field(default_factory=dict)

    def along(self, path: Path) -> Iterator[Mark]:
        """Yield the marks on the way to ``path``, as far as the document goes."""
        mark = self
        yield mark
        for part in path:
            if part not in mark.children:
                return
            mark = mark.children[part]
            yield mark

    def nearest(self, path: Path) -> Mark:
        """Return the mark of ``path``, or of the deepest value on the way that is there."""
        *_, mark = self.along(path)
        return mark

    def spelling(self, path: Path) -> str | None:
        """Return how the scalar at ``path`` was written, if there is one."""
        marks = list(self.along(path))
        return marks[-1].text if len(marks) == len(path) + 1 else None


@dataclass(frozen=True)
class SourceDocument:
    """A parsed text: its plain data with marks, or None where the syntax is broken, and what was wrong."""

    data: Any = None
    marks: Mark | None = None
    faults: tuple[Fault, ...] = ()
