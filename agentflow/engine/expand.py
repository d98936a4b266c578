"""Expand: make the steps of a foreach's items, and let further items begin as others end. Inside a verb's transaction.

A foreach waits for its items as a step waits for its needs: each has an edge to it. An item with a body is a row of its
own that waits for the last steps of the body. Items beyond max_parallel lack one more need, their turn.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection

from agentflow.domain.beginning import Ends, Expands
from agentflow.domain.child import body_key, item_key, plan_id
from agentflow.domain.ids import RunId, StepKey, step_id
from agentflow.domain.plan import MAX_STEPS, Foreach, Step
from agentflow.domain.reason import Reason
from agentflow.domain.state import StepState
from agentflow.engine.context import PlanView
from agentflow.engine.items import no_items
from agentflow.engine.new_steps import labels_of, new_step
from agentflow.engine.record import Moves
from agentflow.storage import children, gates, graphs, limits, runs, steps
from agentflow.storage.graphs import NewEdge, NewStep

WRITTEN_AT_ONCE = 1000
"""How many steps one statement writes."""


def expand(
    tx: Connection, plan: PlanView, run_id: RunId, foreach: steps.Successor, how: Expands, moves: Moves
) -> list[steps.Successor] | Ends:
    """Make the steps of a foreach; returns those that may begin, or the foreach itself where it has no items.

    Ends when the run would have too many steps then, or when it began before with another number of items.
    """
    terms = plan.plan.step(foreach.key).foreach
    if terms is None:
        raise LookupError(f"{foreach.key} is no foreach")
    if before := children.count_items(tx, run_id, foreach.key):
        return _begin_anew(tx, run_id, foreach, how, before, terms, moves)
    made = _made(tx, plan, run_id, foreach.key, terms)
    if (total := made.first_position + how.items * (1 + len(terms.steps))) > MAX_STEPS:
        return no_items(f"with its {how.items} items the run would have {total} steps, and {MAX_STEPS} is the most")
    rows = made.insert(tx, how.items)
    expanded = children.note_expanded(tx, foreach.id, how.items, released=made.released(how.items))
    moves.note("expanded", foreach.key, how.items)
    if not how.items:
        return [expanded]
    return children.read_fresh(tx, run_id, [row.id for row in rows if not row.needs])


def insert_items(tx: Connection, plan: PlanView, run_id: RunId, foreach: StepKey, items: int) -> None:
    """Write the rows that a foreach of a run which is being made has made in another run; what they say is set then."""
    terms = plan.plan.step(foreach).foreach
    if terms is None:
        raise LookupError(f"{foreach} is no foreach")
    _made(tx, plan, run_id, foreach, terms).insert(tx, items)


def _made(tx: Connection, plan: PlanView, run_id: RunId, foreach: StepKey, terms: Foreach) -> _Made:
    project = runs.read_owner(tx, run_id).project
    return _Made(plan, run_id, foreach, terms, project, children.next_position(tx, run_id))


def _begin_anew(
    tx: Connection, run_id: RunId, foreach: steps.Successor, how: Expands, before: int, terms: Foreach, moves: Moves
) -> list[steps.Successor] | Ends:
    """Let the items of a foreach that was taken up again have their turns, if its list is as long as it was."""
    if how.items != before:
        ended = no_items(f"it has {how.items} items now and had {before}; fork the run from {plan_id(foreach.key)}")
        end_inside(tx, run_id, foreach.key, StepState.SKIPPED, ended.reason, moves)
        return ended
    children.note_expanded(tx, foreach.id, how.items, released=0)
    moves.note("expanded", foreach.key, how.items)
    return children.release(tx, foreach.id, terms.max_parallel or how.items)


def end_inside(
    tx: Connection, run_id: RunId, around: StepKey, state: StepState, reason: Reason | None, moves: Moves
) -> list[children.Inner]:
    """End what waits inside of a foreach or of an item, but for what waits for steps inside of it and ends as they do.

    Returns all that was not final, as it stood. The caller holds the run alone, and tells the successors.
    """
    inner = children.lock_inner(tx, run_id, around)
    for old in (StepState.PENDING, StepState.READY, StepState.RETRYING, StepState.HELD):
        ended = [step for step in inner if step.state is old and not step.is_open]
        if ended:
            steps.move(tx, [step.id for step in ended], [old], state, reason)
            if old is StepState.HELD:
                gates.withdraw(tx, [step.id for step in ended])
            moves.add_steps([step.key for step in ended], old, state)
    return inner


def release(tx: Connection, plan: PlanView, run_id: RunId, foreach: steps.Successor) -> list[steps.Successor]:
    """Let as many further items have their turn as have ended; returns their steps that may begin."""
    terms = plan.plan.step(foreach.key).foreach
    if terms is None:
        return []
    return children.release(tx, foreach.id, terms.max_parallel or foreach.children or 0)


@dataclass(frozen=True)
class _Made:
    """What one foreach makes."""

    plan: PlanView
    run_id: RunId
    foreach: StepKey
    terms: Foreach
    project: str
    first_position: int

    @property
    def templates(self) -> list[Step]:
        return list(self.terms.steps) or [self.plan.plan.step(self.foreach)]

    def insert(self, tx: Connection, items: int) -> list[NewStep]:
        """Write the steps of so many items, some at a time: a transaction must not rest for long; returns them."""
        limits.insert_slots(tx, [step.concurrency for step in self.templates if step.concurrency is not None])
        at_once = max(1, WRITTEN_AT_ONCE // (1 + len(self.terms.steps)))
        written: list[NewStep] = []
        for first in range(0, items, at_once):
            some = range(first, min(items, first + at_once))
            rows = list(self.rows(some, items))
            graphs.insert_graph(tx, self.run_id, graphs.written_graph(rows, list(self.edges(some))))
            written += rows
        return written

    def released(self, items: int) -> int:
        return min(items, self.terms.max_parallel or items)

    def rows(self, some: range, items: int) -> Iterator[NewStep]:
        body = self.terms.steps
        ends = self.plan.body_graph(self.foreach).sinks if body else ()
        for item in some:
            position = self.first_position + item * (1 + len(body))
            key, has_turn = item_key(self.foreach, item), item < self.released(items)
            yield self._row(key, position, item, needs=len(ends), awaits_turn=not has_turn)
            for offset, step in enumerate(body, start=1):
                awaits_turn = not step.needs and not has_turn
                inner = body_key(key, step.id)
                yield self._row(inner, position + offset, item, needs=len(step.needs), awaits_turn=awaits_turn)

    def _row(self, key: StepKey, position: int, item: int, *, needs: int, awaits_turn: bool) -> NewStep:
        return new_step(
            self.plan, self.run_id, key, position,
            project=self.project, needs=needs, is_begun_later=True, parent=self.foreach, item=item,
            awaits_turn=awaits_turn,
        )  # fmt: skip

    def edges(self, some: range) -> Iterator[NewEdge]:
        body = {step.id: step for step in self.terms.steps}
        ends = self.plan.body_graph(self.foreach).sinks if body else ()
        for item in some:
            key = item_key(self.foreach, item)
            yield self._edge(key, self.foreach)
            for end in ends:
                yield self._edge(body_key(key, end), key)
            for step in body.values():
                for need in step.needs:
                    yield self._edge(body_key(key, need), body_key(key, step.id), labels_of(body[need], step.id))

    def _edge(self, from_key: StepKey, to_key: StepKey, labels: tuple[str, ...] | None = None) -> NewEdge:
        return NewEdge(step_id(self.run_id, from_key), step_id(self.run_id, to_key), labels)
