"""Parse JSON into plain data with the place of every value.

Owns a strict parser (RFC 8259, bounded depth) because the standard one tells no places and drops repeated keys.
"""

from __future__ import annotations

import bisect
import re
from json import JSONDecodeError, JSONDecoder
from typing import Any

from agentflow.domain.fault import Fault
from agentflow.domain.source_map import Mark, SourceDocument
from agentflow.domain.wording import shorten

MAX_DEPTH = 64
_SPACE = re.compile(r"[ \t\n\r]*")
_SCALAR = re.compile(
    r"(?P<number>-?(?:0|[1-9]\d{0,999})(?P<fraction>\.\d+)?(?P<exponent>[eE][+-]?\d+)?)|true|false|null"
)
_DECODER = JSONDecoder()
"""Reads the strings."""
_NAMES = {"true": True, "false": False, "null": None}


def parse_json(text: str, file: str) -> SourceDocument:
    """Return the data of ``text``; syntax errors and repeated keys are faults that name ``file`` and line."""
    parser = _Parser(text, file)
    try:
        data, mark = parser.document()
    except JSONDecodeError as error:
        parser.fault("json_syntax", f"the JSON cannot be read: {error.msg}", error.pos)
        return SourceDocument(faults=tuple(parser.faults))
    return SourceDocument(data, mark, tuple(parser.faults))


class _Parser:
    def __init__(self, text: str, file: str) -> None:
        self._text, self._file = text, file
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self.faults: list[Fault] = []

    def fault(self, code: str, message: str, position: int) -> None:
        mark = self._mark(position)
        self.faults.append(Fault(code, message, file=self._file, line=mark.line, column=mark.column))

    def _mark(self, position: int) -> Mark:
        line = bisect.bisect_right(self._line_starts, position)
        return Mark(line, position - self._line_starts[line - 1] + 1)

    def document(self) -> tuple[Any, Mark]:
        data, mark, end = self._value(self._skip(0), 0)
        if (end := self._skip(end)) != len(self._text):
            raise JSONDecodeError("there is something after the end of the document", self._text, end)
        return data, mark

    def _skip(self, position: int) -> int:
        match = _SPACE.match(self._text, position)
        return match.end() if match else position

    def _peek(self, position: int) -> str:
        return self._text[position : position + 1]

    def _value(self, position: int, depth: int) -> tuple[Any, Mark, int]:
        if depth > MAX_DEPTH:
            raise JSONDecodeError(f"it nests deeper than {MAX_DEPTH} levels", self._text, position)
        match self._peek(position):
            case "{":
                return self._mapping(position, depth)
            case "[":
                return self._list(position, depth)
            case '"':
                value, end = _DECODER.raw_decode(self._text, position)
                mark = self._mark(position)
                mark.text = value
                return value, mark, end
            case _:
                return self._scalar(position)

    def _scalar(self, position: int) -> tuple[Any, Mark, int]:
        match = _SCALAR.match(self._text, position)
        if match is None:
            found = shorten(self._text[position : position + 10], 10)
            raise JSONDecodeError(
                f"a value is expected, not {found!r}" if found else "it ends too early", self._text, position
            )
        mark = self._mark(position)
        mark.text = match.group()
        if match["number"] is None:
            return _NAMES[match.group()], mark, match.end()
        is_whole = match["fraction"] is None and match["exponent"] is None
        return (int if is_whole else float)(match.group()), mark, match.end()

    def _list(self, position: int, depth: int) -> tuple[list[Any], Mark, int]:
        mark, items = self._mark(position), list[Any]()
        position = self._skip(position + 1)
        if self._peek(position) == "]":
            return items, mark, position + 1
        while True:
            item, mark.children[len(items)], position = self._value(position, depth + 1)
            items.append(item)
            position, is_end = self._after_item(position, "]")
            if is_end:
                return items, mark, position

    def _mapping(self, position: int, depth: int) -> tuple[dict[str, Any], Mark, int]:
        mark, entries = self._mark(position), dict[str, Any]()
        position = self._skip(position + 1)
        if self._peek(position) == "}":
            return entries, mark, position + 1
        while True:
            key, key_position, position = self._key(position)
            value, value_mark, position = self._value(position, depth + 1)
            if key in entries:
                self.fault("duplicate_key", f"the key {shorten(key)!r} stands twice in one mapping", key_position)
            else:
                key_mark = self._mark(key_position)
                entries[key] = value
                mark.children[key] = Mark(key_mark.line, key_mark.column, value_mark.text, value_mark.children)
            position, is_end = self._after_item(position, "}")
            if is_end:
                return entries, mark, position

    def _key(self, position: int) -> tuple[str, int, int]:
        """Read ``"key":``; return the key, its position and where its value begins."""
        if self._peek(position) != '"':
            raise JSONDecodeError("a key in double quotes is expected", self._text, position)
        key, end = _DECODER.raw_decode(self._text, position)
        end = self._skip(end)
        if self._peek(end) != ":":
            raise JSONDecodeError("a colon is expected after the key", self._text, end)
        return key, position, self._skip(end + 1)

    def _after_item(self, position: int, closing: str) -> tuple[int, bool]:
        position = self._skip(position)
        found = self._peek(position)
        if found == closing:
            return position + 1, True
        if found != ",":
            raise JSONDecodeError(f"a comma or {closing} is expected", self._text, position)
        return self._skip(position + 1), False
