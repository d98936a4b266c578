"""Unchosen: of the steps that are not taken, which switch passed them over, and what it chose instead.

Owns the reason only; that they are not taken is decided already. Inside a verb's transaction, one read for all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from sqlalchemy import Connection

from agentflow.domain.beginning import Beginning, Ends
from agentflow.domain.child import is_item
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.state import StepState
from agentflow.engine.context import PlanView
from agentflow.engine.gather import Scope
from agentflow.engine.new_steps import labels_of
from agentflow.storage import steps
from agentflow.storage.steps import Successor

Begun = Sequence[tuple[Successor, Beginning]]


def told_by_switches(tx: Connection, plan: PlanView, run_id: RunId, begun: Begun) -> list[tuple[Successor, Beginning]]:
    """Return ``begun``, where steps that a switch passed over say so: by which switch, and what it chose."""
    switches = {step.key: _switches(plan, step.key) for step, how in begun if _is_untaken(how)}
    rows = {row for found in switches.values() for row in found}
    if not rows:
        return list(begun)
    choices = {row: facts.choice for row, facts in steps.read_facts(tx, run_id, rows).items()}
    return [(step, _told(how, switches.get(step.key, {}), choices)) for step, how in begun]


def _told(
    how: Beginning, switches: Mapping[StepKey, Collection[str]], choices: Mapping[StepKey, str | None]
) -> Beginning:
    for switch, labels in switches.items():
        choice = choices.get(switch)
        if choice is not None and choice not in labels:
            return Ends(StepState.SKIPPED, Reason(ReasonCode.NOT_CHOSEN, {"switch": switch, "choice": choice}))
    return how


def _is_untaken(how: Beginning) -> bool:
    return isinstance(how, Ends) and how.reason is not None and how.reason.code is ReasonCode.NOT_TAKEN


def _switches(plan: PlanView, key: StepKey) -> dict[StepKey, tuple[str, ...]]:
    """The rows of the switches that decide about a step, each with the labels that take it."""
    if is_item(key):
        return {}
    scope, step = Scope(plan.plan, key), plan.plan.step(key)
    labels = {scope.row(need): labels_of(plan.plan.step(need), step.id) for need in step.needs}
    return {row: found for row, found in labels.items() if found}
