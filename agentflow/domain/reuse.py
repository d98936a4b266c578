"""Reuse: which steps of a run a fork of it takes over as they are, and which run again.

Pure: the states, the plans and what steps refer to are handed in. What a reused step left is the engine's to carry.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from agentflow.domain.action import ApprovalAction, LlmAction, RunAction
from agentflow.domain.graph import Graph
from agentflow.domain.ids import StepKey
from agentflow.domain.plan import Plan, Step


def reused_steps(
    old: Plan, new: Plan, graph: Graph, succeeded: Collection[StepKey], again: Iterable[StepKey]
) -> frozenset[StepKey]:
    """Return the steps of ``new`` that a fork takes over from a run of ``old`` in which ``succeeded`` did.

    Not taken over are those named in ``again``, those that are new or whose document changed, and all that follows from
    any of them: a step must not have read what another then says otherwise. Nor is a gate: what was approved was that
    run, so a fork asks again; nor a foreach with a gate or a child run inside. ``graph`` is that of ``new``.
    """
    known = {step.id: step for step in old.steps}
    changed = [step.id for step in new.steps if not is_same(known.get(step.id), step)]
    gates = [step.id for step in new.steps if isinstance(step.action, ApprovalAction) or _has_own_ends(step)]
    return frozenset(succeeded) & frozenset(graph.keys) - with_dependents(graph, [*again, *changed, *gates])


def _has_own_ends(step: Step) -> bool:
    """Whether something inside of a foreach ended by what belongs to its run: a decision of people, a child run."""
    work = [step] if step.foreach is not None else []
    while work:
        inner = work.pop()
        if isinstance(inner.action, ApprovalAction | RunAction):
            return True
        work.extend(inner.foreach.steps if inner.foreach is not None else ())
    return False


def is_same(old: Step | None, new: Step) -> bool:
    """Whether a step means what it meant. That its answer is needed no more does not count as a change."""
    if old is None or old == new:
        return old is not None
    if not isinstance(old.action, LlmAction) or not isinstance(new.action, LlmAction) or new.action.is_answer_needed:
        return False
    return old.model_copy(update={"action": old.action.model_copy(update={"is_answer_needed": False})}) == new


def with_dependents(graph: Graph, keys: Iterable[StepKey]) -> frozenset[StepKey]:
    """Return ``keys`` and every step that waits for one of them, directly or through others."""
    found: set[StepKey] = set()
    work = list(keys)
    while work:
        key = work.pop()
        if key not in found:
            found.add(key)
            work.extend(graph.dependents[key])
    return frozenset(found)


def changed_vars(old: Mapping[str, object], new: Mapping[str, object]) -> frozenset[str]:
    """Return the names of the vars of a fork whose value its origin had otherwise, or not at all."""
    return frozenset(name for name, value in new.items() if name not in old or _differ(old[name], value))


def _differ(old: object, new: object) -> bool:
    return type(old) is not type(new) or old != new  # True is no 1
