"""Evaluate: decide conditions of steps, and what the engine's own steps come to, from the steps before them.

An expression may read files and work for a while, and a transaction holds locks. So a verb asks inside its transaction,
where the facts are seen as the verb leaves them; what is not decided yet rolls it back, is evaluated outside, and the
verb starts over with the decisions. Needs are final when a step is decided, so a decision does not age.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import Connection

from agentflow.domain import expression
from agentflow.domain.beginning import Beginning, Ends, Starts, beginning_of
from agentflow.domain.child import is_item
from agentflow.domain.error import ContentError, TemplateError
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.merge import after_body, after_items
from agentflow.domain.plan import WHEN_WORDS
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.reference import Reference
from agentflow.domain.state import StepState
from agentflow.domain.transition import after_needs
from agentflow.engine.begin import begin, sources_of
from agentflow.engine.context import EngineContext, PlanView
from agentflow.engine.gather import Scope, gather, read_facts
from agentflow.engine.unchosen import told_by_switches
from agentflow.storage import runs, steps
from agentflow.telemetry import get_logger

log = get_logger(__name__)

Done = TypeVar("Done")


@dataclass(frozen=True, slots=True)
class Question:
    """A step that may begin, with the facts that it asks about: its condition, and what the engine has to decide."""

    run_id: RunId
    key: StepKey
    plan: PlanView
    condition: str | None
    references: frozenset[Reference]
    facts: Mapping[StepKey, steps.StepFacts]
    variables: Mapping[str, Any]


class ConditionsAsked(Exception):
    """The verb cannot go on before these questions are answered; it starts over then."""

    def __init__(self, questions: list[Question]) -> None:
        super().__init__(f"{len(questions)} conditions")
        self.questions = questions


class Conditions:
    """What the steps that one verb call met so far begin as, decided."""

    def __init__(self) -> None:
        self._decided: dict[StepKey, Beginning] = {}

    def begin(
        self, tx: Connection, plan: PlanView, run_id: RunId, free: Sequence[steps.Successor]
    ) -> list[tuple[steps.Successor, Beginning]]:
        """Return what steps begin as that wait for nothing; ConditionsAsked if one of them is not decided yet."""
        begun: dict[StepKey, Beginning | None] = {step.key: self._of(plan, step) for step in free}
        open_keys = [key for key, how in begun.items() if how is None]
        if open_keys:
            variables = runs.read_vars(tx, run_id)
            raise ConditionsAsked([_question(tx, plan, run_id, key, variables) for key in open_keys])
        return told_by_switches(tx, plan, run_id, [(step, how) for step in free if (how := begun[step.key])])

    def _of(self, plan: PlanView, step: steps.Successor) -> Beginning | None:
        """What is decided of a step, by its counters or by an answer; None where it is to be asked."""
        if step.children is not None:
            return after_items(plan.plan.step(step.key), step.children, step.needs)
        if plan.plan.is_body(step.key):
            return after_body(step.needs)
        then = after_needs(step.when_rule, step.needs)
        if then is not None and (then.state is not StepState.READY or not plan.plan.is_engines(step.key)):
            return beginning_of(then)
        return self._decided.get(step.key)

    def answer(self, context: EngineContext, questions: Iterable[Question]) -> None:
        """Evaluate questions, outside of any transaction."""
        for question in questions:
            self._decided[question.key] = _evaluate(context, question)


def with_conditions(context: EngineContext, work: Callable[[Conditions], Done]) -> Done:
    """Do a verb's ``work``, again and again until everything that it meets is decided."""
    conditions = Conditions()
    while True:
        try:
            return work(conditions)
        except ConditionsAsked as asked:
            conditions.answer(context, asked.questions)


def _question(tx: Connection, plan: PlanView, run_id: RunId, key: StepKey, variables: Mapping[str, Any]) -> Question:
    step = plan.plan.step(key)
    has_condition = step.when not in WHEN_WORDS and not is_item(key)  # what a foreach asks holds for its items
    condition = expression.bare_expression(step.when) if has_condition else None
    references: set[Reference] = set()
    if condition is not None:
        references |= expression.inspect_expression(condition).references
    if plan.plan.is_engines(key):
        references |= sources_of(step, is_item=is_item(key))
    scope = Scope(plan.plan, key)
    return Question(
        run_id,
        key,
        plan,
        condition,
        frozenset(references),
        read_facts(tx, run_id, scope, references),
        variables,
    )


def _evaluate(context: EngineContext, question: Question) -> Beginning:
    """What a step begins as whose needs let it; skipped where its condition is false or cannot be evaluated."""

    def values(references: frozenset[Reference]) -> dict[str, Any]:
        scope = Scope(question.plan.plan, question.key)
        variables = question.variables
        return gather(context, question.run_id, references, question.facts, variables=variables, scope=scope)

    try:
        if question.condition is not None:
            asked = expression.inspect_expression(question.condition).references
            if not expression.holds(question.condition, values(asked)):
                return Ends(StepState.SKIPPED, Reason(ReasonCode.WHEN_FALSE))
    except (TemplateError, ContentError) as error:
        return Ends(StepState.SKIPPED, Reason(ReasonCode.WHEN_ERROR, {"problem": str(error)}))
    except Exception as error:  # whatever it is, it must not keep the verb from being recorded
        log.exception("condition_failed", step_id=question.key)
        return Ends(StepState.SKIPPED, Reason(ReasonCode.WHEN_ERROR, {"problem": type(error).__name__}))
    if not question.plan.plan.is_engines(question.key):
        return Starts()
    step = question.plan.plan.step(question.key)
    sources = sources_of(step, is_item=is_item(question.key))
    return begin(context, question.run_id, question.key, step, lambda: values(sources))
