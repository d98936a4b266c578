"""The first page of help: every verb under what it is for, in one line each.

It is written without rich, whose import alone takes longer than all else that the page needs.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import Any

from typer.core import TyperGroup


class Overview(TyperGroup):
    """The command ``agentflow`` itself; the pages of its verbs are typer's own."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the page as plain text."""
        super(TyperGroup, self).format_help(ctx, formatter)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """Write the verbs by their panels, in the order in which they were registered."""
        panels = defaultdict(list)
        for name in self.list_commands(ctx):
            command = self.get_command(ctx, name)
            if command is not None and not command.hidden:
                panels[getattr(command, "rich_help_panel", None) or "Commands"].append((name, command))
        width = max(len(name) for verbs in panels.values() for name, _ in verbs)
        for panel, verbs in panels.items():
            with formatter.section(panel):
                lines = [
                    (name, _first_sentence(command.help or "", formatter.width - width - 6)) for name, command in verbs
                ]
                formatter.write_dl([(name.ljust(width), line) for name, line in lines])


def _first_sentence(text: str, limit: int) -> str:
    """Return what a verb does, as far as whole clauses fit into a line."""
    sentence = " ".join(text.split("\n\n")[0].split()).split(". ")[0].rstrip(".")
    if len(sentence) <= limit:
        return sentence
    begun = sentence[: limit - 3]
    clauses = re.match(r"(.*)[,:;] ", begun)
    return clauses[1] if clauses else begun.rpartition(" ")[0] + " ..."
