"""What a node reads and what it puts out: where the value comes from, and how a plan's template writes it.

A node without an operation hands on what it was given, so that the value at a node is that of the last one before it
that made something. Owns the kinds of values and their expressions; what they were in a run is workflow_history's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from jinja2 import Environment

from agentflow.domain.template import Expression, split_template
from agentflow.domain.workflow import Edge

INPUT = "input"
"""The var of the plan that holds what a run is given."""


@dataclass(frozen=True, slots=True)
class Request:
    """What the run was given."""


@dataclass(frozen=True, slots=True)
class Item:
    """What a subtask was given: an item of the foreach ``foreach``, which goes through ``items``."""

    foreach: str
    items: Slice


@dataclass(frozen=True, slots=True)
class Output:
    """What a step wrote: ``what`` is its text, its stdout or its result."""

    step: str
    what: str
    is_json: bool = False
    is_text: bool = False


@dataclass(frozen=True, slots=True)
class Unless:
    """What a node put out that may fail, or else what stood before it."""

    output: Output
    before: Source


@dataclass(frozen=True, slots=True)
class Labelled:
    """What a decision hands on: a text becomes ``{decision: text}``."""

    of: Source


@dataclass(frozen=True, slots=True)
class Slice:
    """The subtask inputs of one edge of a split: every ``every``-th from ``first`` on."""

    of: Source
    first: int
    every: int


@dataclass(frozen=True, slots=True)
class Part:
    """What comes along an edge to a merge: ``step`` ended it; a subtask is one of the foreach ``foreach``."""

    edge: Edge
    step: str
    output: Source
    foreach: str | None = None

    @property
    def node(self) -> str:
        """The node that it comes from."""
        return self.edge.source


@dataclass(frozen=True, slots=True)
class Parts:
    """What a merge is given, edge by edge."""

    parts: tuple[Part, ...]


Source = Request | Item | Output | Unless | Labelled | Parts


class UnreadableError(Exception):
    """A value cannot be written as an expression; the message says of what."""


def expression_of(source: Source) -> str:
    """Return the expression of a value; UnreadableError for one that no template can read."""
    match source:
        case Request():
            return f"vars.{INPUT}"
        case Item(foreach=foreach):
            return f"loops[{json.dumps(foreach)}].item"
        case Output():
            written = f"steps[{json.dumps(source.step)}].{source.what}"
            return f"({written} | fromjson)" if source.is_json else written
        case Unless(output=output, before=before):
            state = f'steps[{json.dumps(output.step)}].state == "succeeded"'
            return f"({expression_of(output)} if {state} else {expression_of(before)})"
        case Labelled(of=of):
            return _labelled(of)
        case Parts(parts=parts):
            _check_ends(parts)
            return f"([{', '.join(map(_part, parts))}] | parts)"


def items_of(sliced: Slice) -> str:
    """Return the expression of the list that a foreach of a split goes through."""
    return f"({list_of(sliced.of)})[{sliced.first}::{sliced.every}]"


def list_of(source: Source) -> str:
    """Return the expression of all subtask inputs: a list, or what an object calls so."""
    written = expression_of(source)
    return f"{written}.subtask_inputs if {written} is mapping else {written}"


def _labelled(of: Source) -> str:
    written = expression_of(of)
    if isinstance(of, Labelled | Parts):
        return written
    if isinstance(of, Output) and of.is_text:
        return f'{{"decision": {written}}}'
    return f'({{"decision": {written}}} if {written} is string else {written})'


def _check_ends(parts: tuple[Part, ...]) -> None:
    """The results of a foreach are those of the one step that ends its body."""
    foreachs = [part.foreach for part in parts if part.foreach is not None]
    for foreach in foreachs:
        if foreachs.count(foreach) > 1:
            raise UnreadableError(f"what the subtasks come to of {foreach}, which end in several nodes")


def _part(part: Part) -> str:
    if part.foreach is not None:
        subtasks = _subtasks(part.foreach, part.output, part.node)
        return f'{{"node_id": {json.dumps(part.node)}, "subtasks": {subtasks}}}'
    taken = f'steps[{json.dumps(part.step)}].state == "succeeded"'
    item = f'{{"node_id": {json.dumps(part.node)}, "node_status": "completed", "output": {expression_of(part.output)}}}'
    return f"({item} if {taken} else none)"


def _subtasks(foreach: str, output: Source, node: str) -> str:
    """The outputs of the subtasks that a foreach did, in their order."""
    match output:
        case Output(is_json=is_json):
            results = f"steps[{json.dumps(foreach)}].results"
            return f"({results} | fromjson)" if is_json else results
        case Item(foreach=own) if own == foreach:
            return items_of(output.items)
        case _:
            raise UnreadableError(f"what the subtasks come to that end in {node}")


@cache
def _lexer() -> Environment:
    return Environment(autoescape=False)  # noqa: S701 - it only cuts text into tokens and renders nothing


def written_in(text: str, names: Mapping[str, str]) -> str:
    """Return a template in which the names ``names`` stand for expressions; TemplateError as split_template."""
    pieces = split_template(text)
    return "".join(
        f"{{{{ {_replaced(piece.source, names)} }}}}" if isinstance(piece, Expression) else piece for piece in pieces
    )


def _replaced(source: str, names: Mapping[str, str]) -> str:
    written, before = [], ""
    for _, kind, token in _lexer().lex(f"{{{{ {source} }}}}"):
        if kind in ("variable_begin", "variable_end"):
            continue
        is_free = kind == "name" and before not in (".", "|")
        written.append(f"({names[token]})" if is_free and token in names else token)
        if kind != "whitespace":
            before = token
    return "".join(written).strip()
