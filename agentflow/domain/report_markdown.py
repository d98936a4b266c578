"""The page of a report as Markdown, in GitHub's flavour. What stands on it is report_page.py's."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from agentflow.domain.report_cells import Cell, Kind, Line, Page, Section, Table

_MARKUP = re.compile(r"[\\`*_{}\[\]<>|#~&!]")
_LONGEST_RUN = re.compile("`+")


def markdown_of(page: Page) -> str:
    """Return the page as text; nothing in a name or a reason acts as markup."""
    return "\n".join(_lines(page)) + "\n"


def _lines(page: Page) -> Iterator[str]:
    yield f"# {_text(page.title)}"
    yield ""
    yield from _rows(("", ""), [(Cell(name), line) for name, line in page.facts])
    for section in page.sections:
        yield from _section(section)
    yield ""
    yield f"---\n\n{_text(page.foot)}"


def _section(section: Section) -> Iterator[str]:
    yield ""
    yield f"## {_text(section.title)}"
    yield ""
    for line in section.lines:
        yield f"- {_line(line)}"
    if section.table is not None:
        yield from _table(section.table)


def _table(table: Table) -> Iterator[str]:
    if table.rows:
        yield from _rows(table.headings, table.rows, [each.kind is Kind.FIGURE for each in table.rows[0]])
    if table.note is not None:
        yield ""
        yield f"*{_text(table.note)}*"


def _rows(
    headings: Sequence[str], rows: Sequence[Sequence[Cell | Line]], is_figure: Sequence[bool] = ()
) -> Iterator[str]:
    """A table; a cell may be a whole line."""
    marks = ["---:" if right else "---" for right in is_figure or [False] * len(headings)]
    yield f"| {' | '.join(map(_text, headings))} |"
    yield f"| {' | '.join(marks)} |"
    for row in rows:
        yield f"| {' | '.join(_cell(each) if isinstance(each, Cell) else _line(each) for each in row)} |"


def _line(line: Line) -> str:
    return " ".join(_cell(cell) for cell in line if cell.text)


def _cell(cell: Cell) -> str:
    if cell.kind is Kind.CODE:
        return _code(cell.text)
    return f"**{_text(cell.text)}**" if cell.kind is Kind.STATE and cell.text else _text(cell.text)


def _text(text: str) -> str:
    return _MARKUP.sub(r"\\\g<0>", _printable(text))


def _code(text: str) -> str:
    """A code span; GitHub splits table cells before it looks at code, so a bar is escaped there too."""
    if not text:
        return ""
    text = _printable(text).replace("|", r"\|")
    fence = "`" * (1 + max((len(run) for run in _LONGEST_RUN.findall(text)), default=0))
    space = " " if text.startswith("`") or text.endswith("`") else ""
    return f"{fence}{space}{text}{space}{fence}"


def _printable(text: str) -> str:
    return text if text.isprintable() else "".join(each if each.isprintable() else repr(each)[1:-1] for each in text)
