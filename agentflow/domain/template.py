"""The text of a template: where literal text ends and ``{{ expressions }}`` begin.

Owns the splitting only. Literal text stays as it was written to the byte, line endings included; blocks ``{% %}`` are
refused. What an expression means is expression.py's.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from agentflow.domain.error import TemplateError

OPEN, CLOSE = "{{", "}}"
LITERAL_HINT = "to write {{ itself, write {{ '{{' }}"
_TOKEN = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|}}|[][(){}'"]""", re.DOTALL)
_PAIRS = {")": "(", "]": "[", "}": "{"}


@dataclass(frozen=True, slots=True)
class Expression:
    """What stands between ``{{`` and ``}}``."""

    source: str


def has_expressions(text: str) -> bool:
    """Whether ``text`` is more than literal text (or tries to be)."""
    return OPEN in text or "{%" in text


def split_template(text: str) -> tuple[str | Expression, ...]:
    """Return the literal pieces and the expressions of ``text`` in order. Raises TemplateError on bad syntax."""
    pieces: list[str | Expression] = []
    position, trims = 0, False
    while (start := text.find(OPEN, position)) >= 0:
        end = _end_of_expression(text, start + len(OPEN))
        source = text[start + len(OPEN) : end]
        literal = text[position:start]
        literal = literal.lstrip() if trims else literal
        # As in Jinja, a dash inside the braces takes the white space beside them away.
        pieces.append(_literal(literal.rstrip() if source.startswith("-") else literal))
        trims = source.endswith("-")
        pieces.append(_expression(source.removeprefix("-").removesuffix("-").strip()))
        position = end + len(CLOSE)
    rest = text[position:]
    pieces.append(_literal(rest.lstrip() if trims else rest))
    return tuple(piece for piece in pieces if piece != "")


def _literal(text: str) -> str:
    if "{%" in text:
        raise TemplateError(
            "blocks {% %} are not allowed: a template has only {{ expressions }}; to write {% itself, write {{ '{%' }}"
        )
    return text


def _expression(source: str) -> Expression:
    if not source:
        raise TemplateError("the expression in {{ }} is empty")
    return Expression(source)


def _end_of_expression(text: str, start: int) -> int:
    """Return where the ``}}`` stands that closes the expression; braces and quotes inside it go in pairs."""
    position, open_brackets = start, list[str]()
    while match := _TOKEN.search(text, position):
        token, position = match.group(), match.end()
        if token == CLOSE:
            if not open_brackets:
                return match.start()
            # Inside a literal such as {"a": {}} the two braces close one bracket each.
            token, position = "}", match.start() + 1
        if token in _PAIRS.values():
            open_brackets.append(token)
        elif len(token) > 1:
            continue
        elif not open_brackets or open_brackets.pop() != _PAIRS.get(token):
            break
    # The text itself is not quoted: it may be a prompt, and messages are logged.
    line = text.count("\n", 0, start) + 1
    raise TemplateError(f"the expression in line {line} of the text has no end: close it with }}}} ({LITERAL_HINT})")
