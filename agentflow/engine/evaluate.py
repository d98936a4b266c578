"""Evaluate: decide the written conditions of steps from the facts of the steps before them.

A condition may read files and work for a while, and a transaction holds locks. So a verb asks inside its transaction,
where the facts are seen as the verb leaves them; what is not decided yet rolls it back, is evaluated outside, and the
verb starts over with the decisions. Needs are final when a step is decided, so a decision does not age.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection

from agentflow.domain import expression
from agentflow.domain.error import ContentError, TemplateError
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.reference import Reference
from agentflow.domain.state import StepState
from agentflow.domain.transition import NextStep
from agentflow.engine.context import EngineContext, PlanView
from agentflow.engine.gather import gather, steps_in
from agentflow.storage import runs, steps
from agentflow.telemetry import get_logger

log = get_logger(__name__)

Done = TypeVar("Done")


@dataclass(frozen=True, slots=True)
class Question:
    """A condition with the facts that it asks about."""

    run_id: RunId
    key: StepKey
    source: str
    references: frozenset[Reference]
    facts: Mapping[StepKey, steps.StepFacts]
    variables: Mapping[str, Any]


class ConditionsAsked(Exception):
    """The verb cannot go on before these questions are answered; it starts over then."""

    def __init__(self, questions: list[Question]) -> None:
        super().__init__(f"{len(questions)} conditions")
        self.questions = questions


class Conditions:
    """The conditions that one verb call met so far, decided."""

    def __init__(self) -> None:
        self._decided: dict[StepKey, NextStep] = {}

    def decide(self, tx: Connection, plan: PlanView, run_id: RunId, keys: Iterable[StepKey]) -> dict[StepKey, NextStep]:
        """Return what the conditions of ``keys`` come to; ConditionsAsked if one of them is not decided yet."""
        wanted = list(keys)
        open_keys = [key for key in wanted if key not in self._decided]
        if open_keys:
            variables = runs.read_vars(tx, run_id)
            raise ConditionsAsked([_question(tx, plan, run_id, key, variables) for key in open_keys])
        return {key: self._decided[key] for key in wanted}

    def answer(self, context: EngineContext, questions: Iterable[Question]) -> None:
        """Evaluate questions, outside of any transaction."""
        for question in questions:
            self._decided[question.key] = _evaluate(context, question)


def with_conditions(context: EngineContext, work: Callable[[Conditions], Done]) -> Done:
    """Do a verb's ``work``, again and again until every condition that it meets is decided."""
    conditions = Conditions()
    while True:
        try:
            return work(conditions)
        except ConditionsAsked as asked:
            conditions.answer(context, asked.questions)


def _question(tx: Connection, plan: PlanView, run_id: RunId, key: StepKey, variables: Mapping[str, Any]) -> Question:
    source = expression.bare_expression(plan.plan.step(key).when)
    references = expression.inspect_expression(source).references
    return Question(run_id, key, source, references, steps.read_facts(tx, run_id, steps_in(references)), variables)


def _evaluate(context: EngineContext, question: Question) -> NextStep:
    """Ready, or skipped because the condition is false or cannot be evaluated."""
    try:
        values = gather(context, question.run_id, question.references, question.facts, variables=question.variables)
        if expression.holds(question.source, values):
            return NextStep(StepState.READY)
    except (TemplateError, ContentError) as error:
        return NextStep(StepState.SKIPPED, Reason(ReasonCode.WHEN_ERROR, {"problem": str(error)}))
    except Exception as error:  # whatever it is, it must not keep the verb from being recorded
        log.exception("condition_failed", step_id=question.key)
        return NextStep(StepState.SKIPPED, Reason(ReasonCode.WHEN_ERROR, {"problem": type(error).__name__}))
    return NextStep(StepState.SKIPPED, Reason(ReasonCode.WHEN_FALSE))
