"""Overrides: what a person may set a step to that has not run, and which steps they may not.

Owns the three forms, and what of a plan forbids one. Whether the step's state allows it is the verb's to see.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, assert_never

from agentflow.domain.action import ApprovalAction, DecisionAction
from agentflow.domain.beginning import Ends
from agentflow.domain.child import body_key, is_child, is_item, parent, plan_id
from agentflow.domain.error import UsageError
from agentflow.domain.graph import Graph
from agentflow.domain.ids import StepKey
from agentflow.domain.plan import Plan, Step
from agentflow.domain.reason import Reason
from agentflow.domain.state import StepState
from agentflow.domain.stored_json import NotStorable, stored_text
from agentflow.domain.wording import did_you_mean

MAX_RESULT_BYTES = 64 * 1024
"""Of a result's JSON text, as for what a step declares itself."""


@dataclass(frozen=True, slots=True)
class Skip:
    """The step is not to be done; for its dependents its way was not taken."""


@dataclass(frozen=True, slots=True)
class Succeed:
    """The step counts as done, with ``result`` as what later steps may read of it."""

    result: Any = None


@dataclass(frozen=True, slots=True)
class Choose:
    """The decision takes this label of its plan."""

    label: str


Override = Skip | Succeed | Choose


def ending_of(plan: Plan, key: StepKey, how: Override, reason: Reason) -> Ends:
    """Return how ``key`` ends by an override. UsageError for one that the step cannot have, whatever its state."""
    step = plan.step(key)
    is_decision = isinstance(step.action, DecisionAction) and not plan.is_foreach(key)
    if isinstance(step.action, ApprovalAction) and not plan.is_foreach(key):
        raise UsageError(f"Step {key!r} is a gate, which no override passes: approve or reject it.", step=key)
    match how:
        case Skip():
            return Ends(StepState.SKIPPED, reason)
        case Succeed(result=result):
            if is_decision:
                raise UsageError(f"Step {key!r} is a decision: name its label instead (--choose LABEL).", step=key)
            checked_result(result)
            return Ends(StepState.SUCCEEDED, reason, result=result)
        case Choose(label=label):
            if not (is_decision and isinstance(step.action, DecisionAction)):
                raise UsageError(f"Step {key!r} is no decision and has no labels.", step=key)
            if label not in step.action.cases:
                raise UsageError(
                    f"Step {key!r} has no label {label!r}: {did_you_mean(label, step.action.cases)}", step=key
                )
            return Ends(StepState.SUCCEEDED, reason, choice=label)
    assert_never(how)


def checked_result(result: Any) -> bytes:
    """Return the JSON text of a result. UsageError where it is none or too large; the text is not quoted."""
    try:
        text = stored_text(result).encode()
    except NotStorable as problem:
        raise UsageError(f"The result is not JSON that can be stored: it {problem}.") from None
    if len(text) > MAX_RESULT_BYTES:
        raise UsageError(f"The result is {len(text):,} bytes of JSON; a step has at most {MAX_RESULT_BYTES:,}.")
    return text


def gates_before(plan: Plan, graph: Graph, body_graph: Graph | None, key: StepKey) -> Iterator[StepKey]:
    """Yield the steps before ``key`` that are gates or hold some; ``body_graph`` is that of the body it stands in.

    What stands before a foreach has ended once it has items.
    """
    if not is_child(key):
        yield from (each for each in graph.ancestors(key) if _has_gate(plan.step(each)))
        return
    item = parent(key)
    if is_item(key) or item is None or body_graph is None:
        return
    for each in body_graph.ancestors(plan_id(key)):
        if _has_gate(plan.step(each)):
            yield body_key(item, each)


def _has_gate(step: Step) -> bool:
    inner = step.foreach.steps if step.foreach is not None else ()
    return isinstance(step.action, ApprovalAction) or any(map(_has_gate, inner))
