"""The one evaluator of templates (``{{ }}``) and of expressions such as a step's ``when``.

Owns the sandbox: plain data, operators, a list of filters and tests; no calls, no globals, no loader, no power
operator, and no multiplying or formatting of text, so that a short text cannot come to a huge one. Owns what a text
refers to (``references``). Which references a plan allows is reference_check's; their values are the engine's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, TemplateSyntaxError, Undefined, UndefinedError, nodes
from jinja2.environment import TemplateExpression
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from agentflow.domain.error import TemplateError
from agentflow.domain.reference import Inspection, Problem, Reference, inspect_node
from agentflow.domain.template import CLOSE, LITERAL_HINT, OPEN, Expression, has_expressions, split_template
from agentflow.domain.template_filter import FILTERS, MAX_TEXT, UnfitError, as_text
from agentflow.domain.wording import shorten

ARGUMENT_LIMIT_BYTES = 64 * 1024
"""What one argument or environment value may come to, in bytes of UTF-8."""
MAX_EXPRESSION = 8192
"""Characters of one expression's source."""

_SYNTAX_ERROR = "the expression has a syntax error"
_LITERAL = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)
_TESTS = (
    "boolean", "defined", "divisibleby", "eq", "even", "false", "float", "ge", "gt", "in", "integer", "le", "lower",
    "lt", "mapping", "ne", "none", "number", "odd", "sequence", "string", "true", "undefined", "upper",
)  # fmt: skip


class _Missing(StrictUndefined):
    """A value that is not there. Its message is the bare name, so that _failure can decide whether to show it."""

    @property
    def _undefined_message(self) -> str:
        return str(self._undefined_name)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, narrowed: a name after a dot is a key of plain data and never a method of it."""

    intercepted_binops = frozenset({"*", "%"})

    def getattr(self, obj: Any, attribute: str) -> Any:
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: str | Any) -> Any:
        if isinstance(obj, Undefined):
            # Undefined values raise when anything is asked of them.
            return obj[argument]
        try:
            if isinstance(obj, Mapping):
                return obj[argument]
            if isinstance(obj, str | list | tuple) and isinstance(argument, int):
                return obj[argument]
        except (KeyError, IndexError, TypeError):
            pass
        return self.undefined(obj=obj, name=argument)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        for operand in (left, right):
            if not isinstance(operand, int | float):
                raise UnfitError(f"{operator} takes two numbers")
            if isinstance(operand, int) and operand.bit_length() > 1024:
                raise UnfitError("the numbers are too large")
        return super().call_binop(context, operator, left, right)


def _sandbox() -> _Sandbox:
    # Nothing here becomes HTML: escaping would damage commands and prompts.
    environment = _Sandbox(undefined=_Missing, autoescape=False, loader=None, cache_size=0)
    environment.globals.clear()
    environment.filters = dict(FILTERS)
    environment.tests = {name: environment.tests[name] for name in _TESTS}
    return environment


_ENVIRONMENT = _sandbox()


def render(text: str, context: Mapping[str, Any], *, limit_bytes: int | None = None) -> str:
    """Return ``text`` with its expressions filled in from ``context``; values that are no text come as JSON.

    ``context`` maps the roots (vars, secrets, run, steps) to mappings of plain data; a mapping may read lazily. Raises
    TemplateError, whose message quotes no value, also when the result is larger than ``limit_bytes`` of UTF-8.
    """
    if not has_expressions(text):
        pieces = [text]
    else:
        pieces = [
            _text_of(piece.source, context) if isinstance(piece, Expression) else piece
            for piece in split_template(text)
        ]
    if sum(map(len, pieces)) > MAX_TEXT:
        raise TemplateError("the rendered text is beyond all bounds")
    rendered = "".join(pieces)
    if limit_bytes is not None and len(rendered.encode(errors="replace")) > limit_bytes:
        raise TemplateError(
            f"the rendered text is larger than {limit_bytes} bytes: hand it over as a file, with stdout_path or "
            "artifacts[...].path, or write it to stdin"
        )
    return rendered


def render_argument(text: str, context: Mapping[str, Any]) -> str:
    """Return ``text`` rendered as one argument or environment value: at most 64 KiB and without NUL."""
    rendered = render(text, context, limit_bytes=ARGUMENT_LIMIT_BYTES)
    if "\0" in rendered:
        raise TemplateError("an argument or environment value cannot hold a NUL character: hand it over as a file")
    return rendered


def evaluate(source: str, context: Mapping[str, Any]) -> Any:
    """Return the value of the bare expression ``source``. Raises TemplateError as render does."""
    source = bare_expression(source)
    inspection = inspect_expression(source)
    if inspection.problems:
        raise TemplateError(f"{_shown(source)}: {inspection.problems[0].message}")
    try:
        value = _compile(source)(context)
        if isinstance(value, Undefined):
            str(value)
    except _FAILURES as error:
        # The cause is not chained: its message may quote a value, and tracebacks are logged.
        raise _failure(source, error) from None
    return value


def holds(source: str, context: Mapping[str, Any]) -> bool:
    """Whether the condition ``source`` holds; text has no truth and must be compared. Raises TemplateError."""
    value = evaluate(source, context)
    if isinstance(value, str):
        raise TemplateError(f"{_shown(source)} gives text, neither true nor false: compare it, as in vars.x == 'yes'")
    return bool(value)


def references(text: str) -> frozenset[Reference]:
    """Return what the template ``text`` refers to. Raises TemplateError with the first thing that is wrong with it."""
    inspection = inspect_template(text)
    if inspection.problems:
        raise TemplateError(inspection.problems[0].message)
    return inspection.references


def bare_expression(source: str) -> str:
    """Return ``source`` without the braces around it, for those who write ``when: "{{ ... }}"``."""
    stripped = source.strip()
    if stripped.startswith(OPEN) and stripped.endswith(CLOSE):
        pieces = split_template(stripped)
        if len(pieces) == 1 and isinstance(pieces[0], Expression):
            return pieces[0].source
    return stripped


def inspect_template(text: str) -> Inspection:
    """Return what the template ``text`` refers to and everything that is wrong with it; evaluates nothing."""
    try:
        pieces = split_template(text)
    except TemplateError as error:
        return Inspection(problems=(Problem("template_syntax", str(error)),))
    found = [inspect_expression(piece.source) for piece in pieces if isinstance(piece, Expression)]
    references = frozenset[Reference]().union(*(one.references for one in found))
    return Inspection(references, tuple(dict.fromkeys(_hinted(problem) for one in found for problem in one.problems)))


def _hinted(problem: Problem) -> Problem:
    """Add how braces are written, for whoever did not mean an expression; a bare one was meant."""
    if not problem.message.startswith(_SYNTAX_ERROR):
        return problem
    return replace(problem, message=f"{problem.message} ({LITERAL_HINT})")


@lru_cache(maxsize=2048)
def inspect_expression(source: str) -> Inspection:
    """Return what the bare expression ``source`` refers to and what is wrong with it; evaluates nothing."""
    try:
        return inspect_node(_parse(source), _ENVIRONMENT.filters, _ENVIRONMENT.tests)
    except TemplateError as error:
        return Inspection(problems=(Problem("template_syntax", str(error)),))


def _parse(source: str) -> nodes.Expr:
    if len(source) > MAX_EXPRESSION:
        raise TemplateError(f"the expression is longer than {MAX_EXPRESSION} characters")
    try:
        body = _ENVIRONMENT.parse(f"{OPEN} {source} {CLOSE}").body
    except TemplateSyntaxError as error:
        raise TemplateError(f"{_SYNTAX_ERROR}: {_of_an_expression(error.message or '')}") from error
    except RecursionError:
        raise TemplateError("the expression nests too deep") from None
    match body:
        case [nodes.Output(nodes=[nodes.Expr() as node])] if not isinstance(node, nodes.Tuple | nodes.TemplateData):
            return node
    raise TemplateError("there must be exactly one expression")


def _of_an_expression(message: str) -> str:
    """Jinja speaks of the statement that it takes an expression in braces for."""
    if message == "unexpected 'end of print statement'":
        return "it ends too early"
    return re.sub(r"(?:token )?'?end of print statement'?", "the end of the expression", message)


@lru_cache(maxsize=512)
def _compile(source: str) -> TemplateExpression:
    return _ENVIRONMENT.compile_expression(source, undefined_to_none=False)


_FAILURES = (
    UndefinedError,
    SecurityError,
    UnfitError,
    TypeError,
    ValueError,
    ArithmeticError,
    LookupError,
    RecursionError,
)


def _text_of(source: str, context: Mapping[str, Any]) -> str:
    if problems := inspect_expression(source).problems:
        raise TemplateError(f"{_shown(source)}: {_hinted(problems[0]).message}")
    value = evaluate(source, context)
    try:
        return as_text(value)
    except _FAILURES as error:
        raise _failure(source, error) from None


def _failure(source: str, error: Exception) -> TemplateError:
    match error:
        case UndefinedError(message=str(name)) if name in source:
            why = f"{name!r} is not there"
        case UndefinedError():
            why = "something it asks for is not there"
        case UnfitError():
            why = str(error)
        case _:
            why = f"the values do not fit ({type(error).__name__})"
    return TemplateError(f"{_shown(source)} cannot be evaluated: {why}")


def _shown(source: str) -> str:
    """Quote an expression without its literal texts: those may be part of a prompt."""
    without_literals = _LITERAL.sub("'...'", source)
    return shorten(f"{OPEN} {without_literals} {CLOSE}", 120)
