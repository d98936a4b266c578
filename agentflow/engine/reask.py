"""Reask: what a retry runs again besides, because a step that runs again refers to it and must wait for it.

Owns which model calls are made again (their answers went with the end of the run), which decisions are decided again,
and which steps run again between a step and one that reads it. What a step refers to stands in the content store, and a
transaction holds locks: so the verb asks inside its transaction, what is not known yet rolls it back, is read outside,
and the verb starts over. Plans do not change, so what was read does not age.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import TypeVar

from agentflow.domain.action import DecisionAction
from agentflow.domain.child import is_item, plan_id
from agentflow.domain.graph import Graph
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.reason import ReasonCode
from agentflow.domain.reference import Reference
from agentflow.domain.reuse import with_dependents
from agentflow.domain.state import StepState
from agentflow.engine.answers import lost_answers
from agentflow.engine.begin import sources_of
from agentflow.engine.carry import references_of_condition
from agentflow.engine.context import EngineContext, PlanView
from agentflow.engine.inputs import content_of
from agentflow.engine.prepare import references_of
from agentflow.engine.readings import Readings
from agentflow.engine.registration import check_registration
from agentflow.engine.row_graph import RowGraph
from agentflow.storage.steps import StandingStep

Done = TypeVar("Done")

STARTS_OVER = frozenset({StepState.FAILED, StepState.HELD, StepState.SUCCEEDED})
"""A step in one of these had started: its needs and its condition are not asked again, unless a need runs again."""


class ReferencesAsked(Exception):
    """The verb cannot go on before it is known what these steps refer to; it starts over then."""

    def __init__(self, plan: PlanView, keys: Collection[StepKey]) -> None:
        super().__init__(f"{len(keys)} steps")
        self.plan = plan
        self.keys = keys


class KnownReferences:
    """What the actions of a run's steps refer to, as far as it was read."""

    def __init__(self) -> None:
        self._known: dict[StepKey, frozenset[Reference]] = {}
        """By the ids of the plan: the items of a foreach refer to the same."""

    def of(self, plan: PlanView, keys: Collection[StepKey]) -> Mapping[StepKey, frozenset[Reference]]:
        """Return what the actions of ``keys`` refer to; ReferencesAsked if one of them was not read yet."""
        if unread := {plan_id(key) for key in keys} - self._known.keys():
            raise ReferencesAsked(plan, unread)
        return {key: self._known[plan_id(key)] for key in keys}

    def read(self, context: EngineContext, run_id: RunId, asked: ReferencesAsked) -> None:
        """Read what was asked for, outside of any transaction. ContentError when it is not there, or not to be seen."""
        actions = {key: asked.plan.plan.step(key).action for key in asked.keys}
        if any(content_of(action) for action in actions.values()):
            check_registration(context.database, context.store, context.audit_key)
        for key, action in actions.items():
            self._known[key] = references_of(context, run_id, action)


def with_references(context: EngineContext, run_id: RunId, work: Callable[[KnownReferences], Done]) -> Done:
    """Do a verb's ``work``, again and again until it is known what every step that matters refers to."""
    known = KnownReferences()
    while True:
        try:
            return work(known)
        except ReferencesAsked as asked:
            known.read(context, run_id, asked)


def also_again(
    rows: RowGraph, standing: Mapping[StepKey, StandingStep], again: frozenset[StepKey], known: KnownReferences
) -> frozenset[StepKey]:
    """Return what runs again because of what the steps ``again`` of an ended run refer to; some of it may be in there.

    A call whose answer went, and a decision that read what runs again, each with all that follows from it, as in a
    fork: see carry.py. And where something ran all the same behind a step that is taken up: what lies between that step
    and one that reads it.
    """
    plan, graph = rows.plan, rows.graph
    succeeded = frozenset(key for key, step in standing.items() if step.state is StepState.SUCCEEDED)
    given = frozenset(key for key in succeeded if standing[key].reason_code == ReasonCode.OVERRIDDEN)
    lost = lost_answers(plan.plan, succeeded - given) - again  # what a person gave stands in the row
    passed = with_dependents(graph, again) - again
    readers = again & with_dependents(graph, lost | passed)
    readings = Readings(rows)
    calls: set[StepKey] = set()
    between: set[StepKey] = set()
    for key, references in known.of(plan, readers).items():
        for step, is_answer in _read_by(readings, standing, again, key, references):
            if step in lost and is_answer:
                calls.add(step)
            elif passed and step in again:
                between |= _between(graph, step, key)
    return with_dependents(graph, calls | _to_decide(readings, succeeded - again, again)) | between


def _to_decide(readings: Readings, decided: Collection[StepKey], again: Collection[StepKey]) -> set[StepKey]:
    """The decisions that may come out otherwise, because something that they read runs again."""
    plan = readings.rows.plan.plan
    decisions = {step.id: step for step in plan.every_step if isinstance(step.action, DecisionAction)}
    return {
        key
        for key in (decided if decisions else ())
        if (step := decisions.get(plan_id(key))) is not None
        for references in (sources_of(step) | references_of_condition(step),)
        if any(read in again for read, _ in readings.of(key, references))
    }


def _read_by(
    readings: Readings,
    standing: Mapping[StepKey, StandingStep],
    again: Collection[StepKey],
    key: StepKey,
    of_action: Iterable[Reference],
) -> Iterator[tuple[StepKey, bool]]:
    """The steps that ``key`` reads when it runs again, and whether it is their answers."""
    plan, before = readings.rows.plan.plan, readings.rows.before(key)
    step, has_item = plan.step(key), is_item(key)
    if plan.is_foreach(key):  # one that only waits for its items reads nothing
        goes_on = key in readings.rows.inside and not any(need in again for need in before)
        references = set() if goes_on else set(sources_of(step))
    else:
        references = {*of_action, *sources_of(step, is_item=has_item)}
        yield from ((readings.scope(key).row(wish.step), False) for wish in step.inputs)
    if not has_item and (standing[key].state not in STARTS_OVER or any(need in again for need in before)):
        references |= references_of_condition(step)
    yield from readings.of(key, references)


def _between(graph: Graph, step: StepKey, reader: StepKey) -> frozenset[StepKey]:
    """The steps through which a reader waits for a step; none where it does so directly."""
    if step in graph.needs[reader]:
        return frozenset()
    return with_dependents(graph, [step]) & graph.ancestors(reader)
