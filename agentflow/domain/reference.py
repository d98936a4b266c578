"""What an expression refers to, read from its syntax tree without evaluating it.

Owns the roots (vars, secrets, run, steps, and the items of foreachs), the shape that a reference to each must have, and
the parts of the expression language that are allowed. Whether the referred thing exists is reference_check's question.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from jinja2 import nodes

from agentflow.domain.ids import StepKey
from agentflow.domain.wording import did_you_mean, shorten

ROOTS = ("vars", "secrets", "run", "steps", "item", "index", "loops")
LOOP_ROOTS = ("item", "index", "loops")
"""What a step reads of the foreachs around it: of the innermost, and of each by its id."""
LOOP_ATTRIBUTES = ("item", "index")
RUN_ATTRIBUTES = ("id",)
STEP_ATTRIBUTES = (
    "stdout", "stdout_path", "stderr_path", "text", "text_path", "result", "choice", "state", "exit_code", "artifacts",
    "results", "count", "failed",
)  # fmt: skip
MAX_DEPTH = 64

_ALLOWED = (
    nodes.Add, nodes.And, nodes.Compare, nodes.CondExpr, nodes.Const, nodes.Dict, nodes.Div, nodes.Filter,
    nodes.FloorDiv, nodes.Getattr, nodes.Getitem, nodes.Keyword, nodes.List, nodes.Mod, nodes.Mul, nodes.Name,
    nodes.Neg, nodes.Not, nodes.Operand, nodes.Or, nodes.Pair, nodes.Pos, nodes.Slice, nodes.Sub, nodes.Test,
    nodes.Tuple,
)  # fmt: skip
_REFUSED: dict[type[nodes.Node], str] = {
    nodes.Call: "calls are not allowed: use a filter, such as {{ vars.x | lower }}",
    nodes.Pow: "the operator ** is not allowed",
    nodes.Concat: "the operator ~ is not allowed: write the parts side by side, {{ a }}{{ b }}, or use +",
}


@dataclass(frozen=True, slots=True)
class Reference:
    """One thing that a text refers to, such as ``steps.collect.stdout``: its root and the names after it."""

    root: str
    names: tuple[str, ...]

    @property
    def step(self) -> StepKey | None:
        """The step referred to, for the root ``steps``."""
        return StepKey(self.names[0]) if self.root == "steps" else None

    @property
    def attribute(self) -> str | None:
        """What of the step is referred to: ``stdout``, ``artifacts``, ..."""
        return self.names[1] if self.root == "steps" else None

    def __str__(self) -> str:
        return ".".join((self.root, *self.names))


@dataclass(frozen=True, slots=True)
class Problem:
    """Something an expression may not do: a fault's code and message without a place."""

    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a text refers to, and what is wrong with it."""

    references: frozenset[Reference] = frozenset()
    problems: tuple[Problem, ...] = ()


def inspect_node(root: nodes.Node, filters: Collection[str], tests: Collection[str]) -> Inspection:
    """Return what the expression ``root`` refers to; only ``filters`` and ``tests`` are known."""
    references: set[Reference] = set()
    problems: list[Problem] = []
    work = [(root, 0)]
    while work:
        node, depth = work.pop()
        if depth > MAX_DEPTH:
            problems.append(Problem("template_syntax", f"the expression nests deeper than {MAX_DEPTH} levels"))
            break
        problems.extend(_node_problems(node, filters, tests))
        if (dashed := _dashed_id(node)) is not None:
            problems.append(Problem("template_syntax", f'an id with a dash is written steps["{dashed}"].stdout'))
            continue
        inner: Iterator[nodes.Node] | list[nodes.Node] = node.iter_child_nodes()
        if isinstance(node, nodes.Name | nodes.Getattr | nodes.Getitem):
            base, names, inner = _chain(node)
            found = _refer(base, names) if base is not None else None
            if isinstance(found, Reference):
                references.add(found)
            elif found is not None:
                problems.append(found)
        work.extend((child, depth + 1) for child in inner)
    return Inspection(frozenset(references), tuple(dict.fromkeys(problems)))


def _node_problems(node: nodes.Node, filters: Collection[str], tests: Collection[str]) -> Iterator[Problem]:
    if not isinstance(node, _ALLOWED):
        message = _REFUSED.get(type(node), f"{type(node).__name__} is not allowed in an expression")
        yield Problem("template_not_allowed", message)
    if isinstance(node, nodes.CondExpr) and node.expr2 is None:
        yield Problem("template_not_allowed", "a condition needs both sides: write {{ a if b else c }}")
    if isinstance(node, nodes.Filter) and node.name not in filters:
        yield Problem("unknown_filter", f"unknown filter {node.name!r}: {did_you_mean(node.name, sorted(filters))}")
    if isinstance(node, nodes.Test) and node.name not in tests:
        yield Problem("unknown_test", f"unknown test {node.name!r}: {did_you_mean(node.name, sorted(tests))}")


def _dashed_id(node: nodes.Node) -> str | None:
    """Return ``a-b`` for the subtraction that ``steps.a-b.stdout`` is to the parser."""
    parts: list[str] = []
    while isinstance(node, nodes.Sub):
        base, _, inner = _chain(node.right)
        if base is None or base in ROOTS or inner:
            return None
        parts.append(base)
        node = node.left
    base, names, _ = _chain(node)
    if not parts or base != "steps" or len(names) != 1:
        return None
    return "-".join((str(names[0]), *reversed(parts)))


def _chain(node: nodes.Node) -> tuple[str | None, list[str | None], list[nodes.Node]]:
    """Take ``a.b["c"][d]`` apart: the name it starts with, what follows (None where computed), and inner nodes."""
    names: list[str | None] = []
    inner: list[nodes.Node] = []
    while isinstance(node, nodes.Getattr | nodes.Getitem):
        if isinstance(node, nodes.Getattr):
            names.append(node.attr)
        elif isinstance(node.arg, nodes.Const):
            names.append(str(node.arg.value))
        else:
            names.append(None)
            inner.append(node.arg)
        node = node.node
    names.reverse()
    if isinstance(node, nodes.Name):
        return node.name, names, inner
    return None, names, [node, *inner]


def _refer(root: str, names: list[str | None]) -> Reference | Problem:
    if root not in ROOTS:
        near = did_you_mean(root, ROOTS)
        return Problem(
            "unknown_name",
            f"unknown name {root!r}: a template knows vars.x, secrets.X, run.id and steps.ID.stdout ({near})",
        )
    wanted = _names_wanted(root, names)
    fixed = tuple(name for name in names[:wanted] if name is not None)
    if len(fixed) < min(wanted, len(names)):
        return Problem("dynamic_reference", f"{root}[...] must name what it reads: a computed name cannot be checked")
    if len(fixed) < wanted:
        return Problem(
            "incomplete_reference", f"{'.'.join((root, *fixed))} is not one value: write {_shape(root, fixed)}"
        )
    if root == "run" and fixed[0] not in RUN_ATTRIBUTES:
        return Problem(
            "unknown_attribute", f"a run has no {shorten(fixed[0])!r} here: {did_you_mean(fixed[0], RUN_ATTRIBUTES)}"
        )
    if root == "steps":
        return _step_reference(fixed)
    if root == "loops" and fixed[1] not in LOOP_ATTRIBUTES:
        near = did_you_mean(fixed[1], LOOP_ATTRIBUTES)
        return Problem("unknown_attribute", f"loops.{shorten(fixed[0])} has no {shorten(fixed[1])!r}: {near}")
    return Reference(root, fixed)


def _names_wanted(root: str, names: list[str | None]) -> int:
    if root in ("item", "index"):
        return 0
    if root != "steps":
        return 2 if root == "loops" else 1
    return 4 if len(names) > 1 and names[1] == "artifacts" else 2


def _step_reference(names: tuple[str, ...]) -> Reference | Problem:
    attribute = names[1]
    if attribute not in STEP_ATTRIBUTES:
        near = did_you_mean(attribute, STEP_ATTRIBUTES)
        return Problem("unknown_attribute", f"a step has no {shorten(attribute)!r}: {near}")
    if attribute == "artifacts" and names[3] != "path":
        return Problem("unknown_attribute", f"an artifact has no {shorten(names[3])!r}: write {_shape('steps', names)}")
    return Reference("steps", names)


def _shape(root: str, names: tuple[str, ...]) -> str:
    match root, names:
        case "steps", (step, "artifacts", *rest):
            return f'steps.{step}.artifacts["{rest[0] if rest else "NAME"}"].path'
        case "steps", (step, *_):
            return f"steps.{step}.stdout (or {', '.join('.' + name for name in STEP_ATTRIBUTES[1:])})"
        case "steps", _:
            return "steps.ID.stdout"
        case "run", _:
            return "run.id"
        case "loops", _:
            return f"loops.{names[0] if names else 'ID'}.item (or .index)"
        case _:
            return f"{root}.NAME"
