"""Readings: which rows of a run a step means by what it refers to, and of which of them it is the answer.

Owns the way through foreachs: a step of an item means its siblings, an item is what the list was made of, and the
results of a foreach are those of its items.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from agentflow.domain.child import Loop, body_key, is_item, loops
from agentflow.domain.ids import StepKey
from agentflow.domain.item_flow import RESULTS, loop_of
from agentflow.domain.reference import LOOP_ROOTS, Reference
from agentflow.domain.reference_check import ANSWER_ATTRIBUTES
from agentflow.engine.gather import Scope
from agentflow.engine.row_graph import RowGraph


@dataclass(frozen=True)
class Readings:
    """What the steps of one run read."""

    rows: RowGraph

    def scope(self, key: StepKey) -> Scope:
        """From where a step reads."""
        return Scope(self.rows.plan.plan, key)

    def of(self, key: StepKey, references: Iterable[Reference]) -> Iterator[tuple[StepKey, bool]]:
        """The rows that ``references`` of a step mean, and whether it is their answers."""
        scope = self.scope(key)
        for reference in references:
            if reference.root in LOOP_ROOTS:
                yield from self._of_item(key, reference)
            elif reference.step is not None:
                row = scope.row(reference.step)
                yield row, reference.attribute in ANSWER_ATTRIBUTES
                if reference.attribute == RESULTS:
                    yield from ((each, True) for each in self.results(row))

    def _of_item(self, key: StepKey, reference: Reference) -> Iterator[tuple[StepKey, bool]]:
        """What the list was made of whose item is meant."""
        around = {loop.id: loop for loop in loops(key)}
        foreach = loop_of(reference, tuple(around))
        if foreach is not None:
            yield from self._of_list(around[foreach])

    def _of_list(self, loop: Loop) -> Iterator[tuple[StepKey, bool]]:
        node = self.rows.plan.flow.node(loop.id)
        yield from self.of(loop.key, node.items)

    def results(self, foreach: StepKey) -> Iterator[StepKey]:
        """The rows that the results of a foreach are read from."""
        terms = self.rows.plan.plan.step(foreach).foreach
        end = self.rows.plan.body_graph(foreach).sinks[-1] if terms is not None and terms.steps else None
        for item in self.rows.inside.get(foreach, ()):
            if not is_item(item):
                continue
            row = item if end is None else body_key(item, end)
            if self.rows.plan.plan.is_foreach(row):
                yield from self.results(row)
            else:
                yield row
