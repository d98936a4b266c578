"""Parse YAML into plain data with the place of every value.

Owns the rules of scalars (those of YAML 1.2: yes, on, 1:30, 007 and dates are text), repeated keys, merge keys, and the
bounds on depth and on what aliases may expand to. Nothing is constructed but text, numbers, booleans, lists, mappings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import yaml

from agentflow.domain.fault import Fault
from agentflow.domain.source_map import Mark, SourceDocument
from agentflow.domain.wording import shorten

MAX_DEPTH = 64
MAX_VALUES = 1_000_000
"""How many values a document may have once its aliases are expanded."""

_TAG = "tag:yaml.org,2002:"
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,999})|0o[0-7]{1,300}|0x[0-9a-fA-F]{1,300}")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*(?:[eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+))")
_BOOL = re.compile(r"true|True|TRUE|false|False|FALSE")
_NULL = re.compile(r"null|Null|NULL|~|")
_SCALARS: tuple[tuple[re.Pattern[str], Callable[[str], Any]], ...] = (
    (_NULL, lambda _: None),
    (_BOOL, lambda text: text.lower() == "true"),
    (_INT, lambda text: int(text, 0 if text[1:2] in ("o", "x") else 10)),
    (_FLOAT, float),
)
_KINDS = {"null": _NULL, "bool": _BOOL, "int": _INT, "float": _FLOAT}
_MERGE = "<<"
_TAB = ": a tab stands here, and YAML is indented by spaces only"


def parse_yaml(text: str, file: str) -> SourceDocument:
    """Return the data of ``text``; syntax errors and repeated keys are faults that name ``file`` and line."""
    builder = _Builder(text, file)
    try:
        node = builder.document()
    except yaml.YAMLError as error:
        builder.fault("yaml_syntax", *_described(error, text))
    except _BrokenError as error:
        builder.fault("yaml_syntax", str(error), error.line, error.column)
    else:
        return SourceDocument(node.data, node.mark, tuple(builder.faults))
    return SourceDocument(faults=tuple(builder.faults))


def _described(error: yaml.YAMLError, text: str) -> tuple[str, int, int]:
    """Return message, line and column of what PyYAML raised."""
    match error:
        case yaml.MarkedYAMLError(problem_mark=mark) if mark is not None:
            parts = [part for part in (error.context, error.problem) if part]
            message, line, column = ", ".join(parts), mark.line + 1, mark.column + 1
            message += _TAB if _is_tab(text, mark) else ""
        case yaml.reader.ReaderError():
            before = text[: error.position]
            message, line = (
                f"{error.reason} (#x{ord(text[error.position : error.position + 1] or '?'):x})",
                before.count("\n") + 1,
            )
            column = error.position - before.rfind("\n")
        case _:
            message, line, column = str(error), 1, 1
    return f"the YAML cannot be read: {message}", line, column


def _is_tab(text: str, mark: yaml.Mark) -> bool:
    """Whether a tab stands where ``mark`` is, or indents its line: the scanner mostly does not say so."""
    line = "".join(text.split("\n")[mark.line : mark.line + 1])
    return "\t" in (line[mark.column : mark.column + 1], *line[: len(line) - len(line.lstrip())])


class _BrokenError(Exception):
    """The document cannot be built."""

    def __init__(self, message: str, event: yaml.Event) -> None:
        super().__init__(message)
        mark = _mark(event)
        self.line, self.column = mark.line, mark.column


@dataclass(slots=True)
class _Node:
    """One built value, with how many values it has in it; aliases share it."""

    data: Any
    mark: Mark
    size: int = 1


class _Builder:
    """Builds data and marks from events: an event stream has no depth that could break the stack."""

    def __init__(self, text: str, file: str) -> None:
        self._events: Iterator[yaml.Event] = yaml.parse(text, Loader=getattr(yaml, "CBaseLoader", yaml.BaseLoader))
        self._file = file
        self._anchors: dict[str, _Node | None] = {}
        self.faults: list[Fault] = []

    def fault(self, code: str, message: str, line: int, column: int) -> None:
        self.faults.append(Fault(code, message, file=self._file, line=line, column=column))

    def document(self) -> _Node:
        """Return the one document of the stream."""
        event = next(self._events)
        while not isinstance(event, yaml.NodeEvent):
            if isinstance(event, yaml.StreamEndEvent):
                raise _BrokenError("the file is empty", event)
            event = next(self._events)
        node = self._build(event, 0)
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                raise _BrokenError("a second document begins here: a file holds one plan", event)
        return node

    def _build(self, event: yaml.Event, depth: int) -> _Node:
        if depth > MAX_DEPTH:
            raise _BrokenError(f"the document nests deeper than {MAX_DEPTH} levels", event)
        if isinstance(event, yaml.AliasEvent):
            return self._aliased(event)
        anchor = event.anchor if isinstance(event, yaml.NodeEvent) else None
        if anchor is not None:
            # An alias inside its own anchor finds None: a value cannot hold itself.
            self._anchors[anchor] = None
        match event:
            case yaml.ScalarEvent():
                node = self._scalar(event)
            case yaml.SequenceStartEvent():
                node = self._sequence(event, depth)
            case yaml.MappingStartEvent():
                node = self._mapping(event, depth)
            case _:
                raise _BrokenError("a value is expected", event)
        if node.size > MAX_VALUES:
            raise _BrokenError(f"the document expands to more than {MAX_VALUES} values", event)
        if anchor is not None:
            self._anchors[anchor] = node
        return node

    def _aliased(self, event: yaml.AliasEvent) -> _Node:
        anchor = event.anchor or ""
        if anchor not in self._anchors:
            raise _BrokenError(f"the alias *{shorten(anchor)} has no anchor", event)
        node = self._anchors[anchor]
        if node is None:
            raise _BrokenError(f"the alias *{shorten(anchor)} stands inside its own anchor", event)
        return _Node(node.data, replace(_mark(event), text=node.mark.text, children=node.mark.children), node.size)

    def _scalar(self, event: yaml.ScalarEvent) -> _Node:
        mark = _mark(event)
        mark.text = event.value
        tag = event.tag
        if tag is not None and tag != "!":
            return _Node(self._tagged(event, tag.removeprefix(_TAG)), mark)
        return _Node(_plain(event.value) if event.implicit[0] and tag is None else event.value, mark)

    def _tagged(self, event: yaml.ScalarEvent, kind: str) -> Any:
        pattern = _KINDS.get(kind)
        if pattern is not None and pattern.fullmatch(event.value):
            return _plain(event.value)
        if kind != "str":
            self._refuse_tag(event)
        return event.value

    def _refuse_tag(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> None:
        self._fault_at(
            event, "yaml_tag", f"the tag {shorten(event.tag or '!')} does not belong here: a plan is plain data"
        )

    def _fault_at(self, event: yaml.Event, code: str, message: str) -> None:
        mark = _mark(event)
        self.fault(code, message, mark.line, mark.column)

    def _sequence(self, start: yaml.SequenceStartEvent, depth: int) -> _Node:
        if start.tag not in (None, "!", _TAG + "seq"):
            self._refuse_tag(start)
        node = _Node([], _mark(start))
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            item = self._build(event, depth + 1)
            node.mark.children[len(node.data)] = item.mark
            node.data.append(item.data)
            node.size += item.size
        return node

    def _mapping(self, start: yaml.MappingStartEvent, depth: int) -> _Node:
        if start.tag not in (None, "!", _TAG + "map"):
            self._refuse_tag(start)
        node, merged = _Node({}, _mark(start)), list[tuple[_Node, yaml.Event]]()
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._key(event, depth)
            value = self._build(next(self._events), depth + 1)
            node.size += value.size
            if key == _MERGE and isinstance(event, yaml.ScalarEvent) and event.implicit[0]:
                merged.append((value, event))
            elif key in node.data:
                self._fault_at(event, "duplicate_key", f"the key {shorten(key)!r} stands twice in one mapping")
            else:
                node.data[key] = value.data
                node.mark.children[key] = replace(_mark(event), text=value.mark.text, children=value.mark.children)
        for value, event in merged:
            _merge(node, value, event)
        return node

    def _key(self, event: yaml.Event, depth: int) -> str:
        """Return a key as it is written: ``1: a`` and ``on: a`` have the keys "1" and "on"."""
        node = self._build(event, depth + 1)
        if isinstance(event, yaml.AliasEvent) or node.mark.text is None:
            raise _BrokenError("a key must be text", event)
        return node.mark.text


def _mark(event: yaml.Event) -> Mark:
    start = event.start_mark
    return Mark(1, 1) if start is None else Mark(start.line + 1, start.column + 1)


def _plain(text: str) -> Any:
    """Return what a scalar without quotes means."""
    for pattern, construct in _SCALARS:
        if pattern.fullmatch(text):
            return construct(text)
    return text


def _merge(node: _Node, value: _Node, event: yaml.Event) -> None:
    """Add the entries of the mapping, or list of mappings, that ``<<`` names; written keys and earlier ones win."""
    sources = [(value.data, value.mark)]
    if isinstance(value.data, list):
        sources = [(item, value.mark.children[index]) for index, item in enumerate(value.data)]
    for data, mark in sources:
        if not isinstance(data, dict):
            raise _BrokenError("<< takes a mapping or a list of mappings", event)
        for key, entry in data.items():
            if key not in node.data:
                node.data[key] = entry
                node.mark.children[key] = mark.children[key]
