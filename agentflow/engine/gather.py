"""Gather: the values that templates and conditions refer to, from rows and from the content store.

Reads only what is referred to. Rows give states, exit codes and declared results; content stays in memory and goes
nowhere but into the work that asked for it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from sqlalchemy import Connection

from agentflow.content.store import Address
from agentflow.domain.action import LlmAction, SubprocessAction
from agentflow.domain.child import loops, resolve
from agentflow.domain.error import ContentError, TemplateError
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.item_flow import RESULTS
from agentflow.domain.plan import Plan
from agentflow.domain.reference import LOOP_ROOTS, Reference
from agentflow.domain.state import StepState
from agentflow.engine.context import EngineContext
from agentflow.engine.items import read_item
from agentflow.engine.results import read_result_rows, results
from agentflow.storage import steps

MAX_TEXT_BYTES = 8 * 1024 * 1024
"""How much of a step's output a template may take as text; more is read through its ``_path``."""

STDOUT, STDERR = "stdout", "stderr"
OUTPUT = frozenset({STDOUT, "stdout_path", "stderr_path", "text", "text_path", "result", "artifacts"})
"""What a step that was skipped has not: ``steps.a.text | default(steps.b.text)`` reads the one that was taken."""


@dataclass(frozen=True, slots=True)
class Scope:
    """From where references are read: a step of a foreach's item means by an id the step of its own item."""

    plan: Plan
    key: StepKey

    def row(self, wanted: StepKey) -> StepKey:
        """The row that is meant by the id ``wanted``."""
        return resolve(self.key, wanted, self.plan.foreach_around)

    def rows(self, references: Iterable[Reference]) -> set[StepKey]:
        """The rows whose facts ``gather`` needs for ``references``."""
        return {self.row(reference.step) for reference in references if reference.step is not None}


def read_facts(
    tx: Connection, run_id: RunId, scope: Scope, references: Iterable[Reference], also: Iterable[StepKey] = ()
) -> dict[StepKey, steps.StepFacts]:
    """Read the facts of all rows that ``gather`` needs for ``references``, and of the rows ``also``."""
    references = list(references)
    facts = steps.read_facts(tx, run_id, {*scope.rows(references), *also})
    foreachs = [scope.row(each.step) for each in references if each.step and each.attribute == RESULTS]
    return read_result_rows(tx, run_id, scope.plan, facts, foreachs) if foreachs else facts


def gather(
    context: EngineContext,
    run_id: RunId,
    references: Iterable[Reference],
    facts: Mapping[StepKey, steps.StepFacts],
    *,
    scope: Scope,
    variables: Mapping[str, Any],
    secrets: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return the evaluator's context for ``references``.

    Raises TemplateError or ContentError when something referred to is not there.
    """
    values: dict[StepKey, dict[str, Any]] = {}
    for reference in references:
        if reference.step is None or reference.attribute is None:
            continue
        row = scope.row(reference.step)
        if row in facts:
            of_step = values.setdefault(reference.step, {})
            if reference.attribute == RESULTS:
                of_step[RESULTS] = results(scope.plan, facts, row, partial(_item_result, context, run_id, scope.plan))
                continue
            of_step |= _found(context, run_id, facts[row], reference.attribute)
    return {
        **_loop_values(context, run_id, scope, references),
        "vars": dict(variables),
        "secrets": dict(secrets or {}),
        "run": {"id": str(run_id)},
        "steps": {str(key): value for key, value in values.items()},
    }


def _loop_values(
    context: EngineContext, run_id: RunId, scope: Scope, references: Iterable[Reference]
) -> dict[str, Any]:
    """``item`` and ``index`` of the innermost foreach around a step, and of each by its id in ``loops``."""
    if not any(reference.root in LOOP_ROOTS for reference in references):
        return {}
    found = {}
    for loop in loops(scope.key):
        foreach = scope.plan.step(loop.id).foreach
        if foreach is not None:
            item = read_item(context, run_id, loop.key, foreach, loop.item)
            found[str(loop.id)] = {"item": item, "index": loop.item}
    innermost = list(found.values())[-1] if found else {}
    return {**innermost, "loops": found}


def _found(context: EngineContext, run_id: RunId, facts: steps.StepFacts, attribute: str) -> dict[str, Any]:
    """What a step has under a name; nothing where it did not come so far, so that only who uses it meets the gap."""
    if facts.state is StepState.SKIPPED and attribute in OUTPUT:
        return {}
    try:
        return {attribute: _value(context, run_id, facts, attribute)}
    except ContentError:
        if facts.state is StepState.SUCCEEDED:
            raise
        return {}


def _value(context: EngineContext, run_id: RunId, facts: steps.StepFacts, attribute: str) -> Any:
    plain: Mapping[str, Callable[[], Any]] = {
        "state": lambda: facts.state.value,
        "exit_code": lambda: facts.exit_code,
        "choice": lambda: facts.choice,
        "count": lambda: facts.items or 0,
        "failed": lambda: facts.items_failed,
        "result": lambda: _result(context, run_id, facts),
        "stdout": lambda: _text(context, run_id, facts, STDOUT),
        "text": lambda: _answer(context, run_id, facts),
        "text_path": lambda: _path(context, run_id, facts, "text"),
        "stdout_path": lambda: _path(context, run_id, facts, STDOUT),
        "stderr_path": lambda: _path(context, run_id, facts, STDERR),
        "artifacts": lambda: _artifacts(context, run_id, facts),
    }
    return plain[attribute]()


def _result(context: EngineContext, run_id: RunId, facts: steps.StepFacts) -> Any:
    """The declared result; that of a model call is in no row, but in its answer, unless a person gave it."""
    if facts.action != "llm" or facts.result is not None:
        return facts.result
    try:
        return json.loads(_text(context, run_id, facts, "text"))
    except (ValueError, RecursionError):  # its text is not to be quoted
        raise TemplateError(f"The answer of step {facts.key!r} is no JSON") from None


def _item_result(context: EngineContext, run_id: RunId, plan: Plan, facts: steps.StepFacts) -> Any:
    """The result of an item; where none is declared what a model said, or what a command wrote."""
    step = plan.step(facts.key)
    action = step.action
    if isinstance(action, SubprocessAction) and step.outputs == "none":
        return _text(context, run_id, facts, STDOUT) if facts.result is None else facts.result
    if isinstance(action, LlmAction) and action.output_schema is None:
        return _answer(context, run_id, facts)
    return _result(context, run_id, facts)


def _answer(context: EngineContext, run_id: RunId, facts: steps.StepFacts) -> str:
    """What was answered; where a person overrode a model call, what they gave as its result."""
    if facts.action == "llm" and facts.result is not None:
        return facts.result if isinstance(facts.result, str) else json.dumps(facts.result, ensure_ascii=False)
    return _text(context, run_id, facts, "text")


def _address(run_id: RunId, facts: steps.StepFacts, name: str) -> Address:
    return Address(str(run_id), name, facts.key, facts.attempt)


def _path(context: EngineContext, run_id: RunId, facts: steps.StepFacts, name: str) -> str:
    return str(context.store.local_path(_address(run_id, facts, name)))


def _text(context: EngineContext, run_id: RunId, facts: steps.StepFacts, name: str) -> str:
    with context.store.open(_address(run_id, facts, name)) as file:
        content = file.read(MAX_TEXT_BYTES + 1)
    if len(content) > MAX_TEXT_BYTES:
        raise TemplateError(
            f"The {name} of step {facts.key!r} is larger than {MAX_TEXT_BYTES} bytes; use steps.{facts.key}.{name}_path"
        )
    return content.decode("utf-8", errors="replace").removesuffix("\n")


def _artifacts(context: EngineContext, run_id: RunId, facts: steps.StepFacts) -> dict[str, Any]:
    return {
        name: {"path": str(context.store.local_path(_address(run_id, facts, artifact_name(name))))}
        for name in facts.artifacts
    }


def artifact_name(name: str) -> str:
    """Where an attempt's artifact stands among its content: apart from its streams."""
    return f"artifacts/{name}"
