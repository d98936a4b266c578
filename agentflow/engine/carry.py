"""Carry: what of a run goes into a fork of it (inputs, answers, the files of steps that are taken over).

Owns the choice of those steps as far as it depends on what is still there, and that the fork has content of its own.
Writes no row.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

from agentflow.content.store import Address
from agentflow.domain import expression
from agentflow.domain.child import is_child, loops, plan_id
from agentflow.domain.error import ContentError
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.item_flow import RESULTS
from agentflow.domain.plan import WHEN_WORDS, Plan, Step
from agentflow.domain.reference import Reference
from agentflow.domain.reference_check import ANSWER_ATTRIBUTES
from agentflow.domain.reuse import reused_steps
from agentflow.domain.state import StepState
from agentflow.engine.answers import TEXT, is_passing
from agentflow.engine.begin import sources_of
from agentflow.engine.context import EngineContext, PlanView
from agentflow.engine.gather import artifact_name
from agentflow.engine.inputs import take_inputs
from agentflow.engine.items import items_address
from agentflow.engine.prepare import references_of
from agentflow.storage.forks import REUSED_ATTEMPT, ReusableStep


@dataclass
class Carrying:
    """One fork on its way: from which run, after which step, into which run and plan."""

    context: EngineContext
    origin_id: RunId
    run_id: RunId
    old: Plan
    view: PlanView
    from_step: StepKey
    reusable: Mapping[StepKey, ReusableStep]
    _references: dict[StepKey, frozenset[Reference]] = field(default_factory=dict)

    def take_inputs(self) -> None:
        """Take along what was handed in with the origin. ContentError when it is not there any more."""
        if not take_inputs(self.context, self.origin_id, self.run_id, self.old):
            raise ContentError(
                f"What was handed in with run {self.origin_id} is not in the content store any more; fork it with "
                "an edited plan, which brings its own",
                run_id=str(self.origin_id),
            )

    def take_over(self) -> frozenset[StepKey]:
        """Choose the steps to take over and give the fork their files; its inputs are there already.

        A model call whose answer went with the origin is made again if a step that runs again refers to it, and so is
        what follows from it: see answers.py. ContentError when a file is not there that ought to be.
        """
        lost: set[StepKey] = set()
        while True:
            again = [self.from_step, *lost]
            reused = reused_steps(self.old, self.view.plan, self.view.graph, self.reusable, again)
            gone = [key for key in self._answers_read(reused) if not self._take(key, TEXT)]
            gone += [foreach for foreach, row in self._results_read(reused) if not self._take(row, TEXT)]
            if not gone:
                break
            lost.update(gone)
        for key in reused:
            for taken in (key, *self.inside(key)):
                self._take_files(taken)
        return reused

    def inside(self, key: StepKey) -> tuple[StepKey, ...]:
        """What a foreach made in the origin, all depths of it."""
        return self._inside.get(key, ())

    @cached_property
    def _inside(self) -> Mapping[StepKey, tuple[StepKey, ...]]:
        found: dict[StepKey, list[StepKey]] = defaultdict(list)
        for key in self.reusable:
            if is_child(key):
                found[loops(key)[0].key].append(key)
        return {key: tuple(inner) for key, inner in found.items()}

    def references(self, key: StepKey) -> frozenset[Reference]:
        """What a step of the fork refers to, in its templates and its condition."""
        if key not in self._references:
            self._references[key] = frozenset().union(*self._references_in(self.view.plan.step(key)))
        return self._references[key]

    def _references_in(self, step: Step) -> Iterator[frozenset[Reference]]:
        yield references_of(self.context, self.run_id, step.action) | sources_of(step) | references_of_condition(step)
        for inner in step.foreach.steps if step.foreach is not None else ():
            yield from self._references_in(inner)

    def _answers_read(self, reused: frozenset[StepKey]) -> Iterator[StepKey]:
        """The calls taken over whose answers are kept for their run only, and that a step which runs again reads."""
        plan = self.view.plan
        passing = {key for key in reused if is_passing(plan.step(key)) and not plan.is_foreach(key)}
        read = self._read(reused, ANSWER_ATTRIBUTES) if passing else set()
        yield from (key for key in self.view.graph.order if key in passing & read)

    def _results_read(self, reused: frozenset[StepKey]) -> Iterator[tuple[StepKey, StepKey]]:
        """The same of calls whose answers are results of a foreach: the foreach, and each row."""
        plan, flow = self.view.plan, self.view.flow
        ends = {key: flow.results_of(key) for key in reused if plan.is_foreach(key)}
        passing = {key: end for key, end in ends.items() if is_passing(plan.step(end))}
        for foreach in sorted(passing.keys() & (self._read(reused, (RESULTS,)) if passing else set())):
            for row in self.inside(foreach):
                is_result = plan_id(row) == passing[foreach] and not plan.is_foreach(row)
                if is_result and self.reusable[row].state is StepState.SUCCEEDED:
                    yield foreach, row

    def _read(self, reused: frozenset[StepKey], attributes: Collection[str]) -> set[StepKey]:
        """The steps of which a step that runs again reads one of ``attributes``."""
        return {
            reference.step
            for key in self.view.graph.keys
            if key not in reused
            for reference in self.references(key)
            if reference.step is not None and reference.attribute in attributes
        }

    def _take_files(self, key: StepKey) -> None:
        for artifact in self.reusable[key].artifacts:
            name = artifact_name(artifact.name) if artifact.kind == "file" else artifact.name
            if not self._take(key, name):
                raise ContentError(
                    f"Step {key!r} of run {self.origin_id} cannot be taken over: its {artifact.name!r} is not in the "
                    "content store any more; fork from that step, or from one before it",
                    step=key,
                )
        if self.reusable[key].items is not None:  # for a retry of the fork; one that went is not asked for any more
            self.context.store.copy(items_address(self.origin_id, key), items_address(self.run_id, key))

    def _take(self, key: StepKey, name: str) -> bool:
        """Give the fork one file of a step; False when the origin has it no more."""
        work = self.reusable[key].work
        if work is None:
            return False
        source = Address(str(self.origin_id), name, key, work.number)
        return self.context.store.copy(source, Address(str(self.run_id), name, key, REUSED_ATTEMPT))


def references_of_condition(step: Step) -> frozenset[Reference]:
    """Return what a step's condition refers to; nothing for a word."""
    if step.when in WHEN_WORDS:
        return frozenset()
    return expression.inspect_expression(expression.bare_expression(step.when)).references


def vars_in(references: Iterable[Reference]) -> frozenset[str]:
    """The names of the vars that are referred to."""
    return frozenset(reference.names[0] for reference in references if reference.root == "vars")
