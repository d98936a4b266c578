"""The rows of steps as they are first written: those of a plan at submit, those of a foreach when its list is known."""

from __future__ import annotations

from agentflow.domain.action import DecisionAction
from agentflow.domain.ids import RunId, StepId, StepKey, step_id
from agentflow.domain.plan import Plan, Step
from agentflow.engine.context import PlanView
from agentflow.storage.graphs import NewEdge, NewStep, StepLimits

FOREACH = "foreach"
"""What the action of a foreach itself is called; its items have the action that is written."""


def new_step(
    view: PlanView,
    run_id: RunId,
    key: StepKey,
    position: int,
    *,
    project: str,
    needs: int,
    is_sink: bool = False,
    is_begun_later: bool = False,
    parent: StepKey | None = None,
    item: int | None = None,
    awaits_turn: bool = False,
) -> NewStep:
    """Build the row of a step; ``is_begun_later``: it is pending even where it needs nothing.

    A turn that it awaits is one more need, but for an item that has a body: the first steps of that wait for the turn.
    """
    step, plan = view.plan.step(key), view.plan
    return NewStep(
        id=step_id(run_id, key),
        key=key,
        position=position,
        action=FOREACH if plan.is_foreach(key) else step.action.type,
        queue=view.queue_of(key),
        when_rule="succeeded" if item is not None and parent is not None and key.endswith("]") else step.when,
        is_sink=is_sink,
        needs=needs + (awaits_turn and not plan.is_body(key)),
        limits=StepLimits() if plan.is_engines(key) else _limits(plan, step, project),
        is_engines=is_begun_later or plan.is_engines(key),
        parent=parent,
        item=item,
        awaits_turn=awaits_turn,
    )


def edge(view: PlanView, from_id: StepId, to_id: StepId, need: Step, step: StepKey) -> NewEdge:
    """Build the edge by which ``step`` needs ``need``."""
    return NewEdge(from_id, to_id, labels_of(need, step))


def labels_of(need: Step, step: StepKey) -> tuple[str, ...] | None:
    """The labels of a decision that take ``step``; None where ``need`` does not choose about it."""
    if not isinstance(need.action, DecisionAction) or need.foreach is not None:
        return None
    taken = tuple(label for label, steps in need.action.cases.items() if step in steps)
    return taken or None


def _limits(plan: Plan, step: Step, project: str) -> StepLimits:
    rate, concurrency = step.rate_limit, step.concurrency
    return StepLimits(
        slot_key=concurrency.key if concurrency else None,
        slot_limit=concurrency.limit if concurrency else None,
        rate_key=rate.key_for(project, plan.name, step.id) if rate else None,
        rate_interval_seconds=rate.interval_seconds if rate else None,
        rate_burst=rate.burst if rate else None,
    )
