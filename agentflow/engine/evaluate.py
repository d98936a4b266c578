"""Evaluate: decide a step's written condition from the facts of the steps before it."""

from __future__ import annotations

from sqlalchemy import Connection

from agentflow.domain import expression
from agentflow.domain.error import ContentError, TemplateError
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.state import StepState
from agentflow.domain.transition import NextStep
from agentflow.engine.context import EngineContext, PlanView
from agentflow.engine.gather import gather, steps_in
from agentflow.storage import runs, steps


def evaluate_when(context: EngineContext, tx: Connection, plan: PlanView, run_id: RunId, key: StepKey) -> NextStep:
    """Evaluate the ``when`` expression of ``key``: ready, or skipped because it is false or cannot be evaluated."""
    source = expression.bare_expression(plan.plan.step(key).when)
    try:
        references = expression.inspect_expression(source).references
        facts = steps.read_facts(tx, run_id, steps_in(references))
        values = gather(context, run_id, references, facts, variables=runs.read_vars(tx, run_id))
        if expression.holds(source, values):
            return NextStep(StepState.READY)
    except (TemplateError, ContentError) as error:
        return NextStep(StepState.SKIPPED, Reason(ReasonCode.WHEN_ERROR, {"problem": str(error)}))
    return NextStep(StepState.SKIPPED, Reason(ReasonCode.WHEN_FALSE))
