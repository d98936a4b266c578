"""Take up: what a retry of some steps means for the foreachs around them, and which of their items await their turn.

A foreach waits again for the items that are taken up; those that succeeded stay. It begins anew, and all inside of it,
where something that it waited for runs again: its list may be another one then.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from agentflow.domain.child import is_child, is_item
from agentflow.domain.ids import RunId, StepId, StepKey, step_id
from agentflow.domain.plan import Plan
from agentflow.domain.reason import ReasonCode
from agentflow.domain.state import StepState
from agentflow.engine.row_graph import RowGraph
from agentflow.storage import children, steps
from agentflow.storage.steps import StandingStep, Successor

Standing = Mapping[StepKey, StandingStep]
BROKEN = frozenset({StepState.FAILED, StepState.CANCELLED})


def is_counted(rows: RowGraph, standing: Standing, key: StepKey) -> bool:
    """Whether a failure counts for its run: not inside of a foreach, or of an item, that succeeded all the same."""
    return not any(
        standing[above].state is StepState.SUCCEEDED and standing[above].reason_code != ReasonCode.ITEMS_FAILED
        for above in rows.around(key)
    )


def named_inside(rows: RowGraph, standing: Standing, key: StepKey) -> Iterator[StepKey]:
    """What is meant by naming a foreach or an item: what did not succeed inside of it."""
    return (each for each in rows.all_inside(key) if standing[each].state in BROKEN)


def with_foreachs(rows: RowGraph, again: Collection[StepKey]) -> set[StepKey]:
    """Return ``again`` with what is around any of it, and with all inside of the foreachs that begin anew."""
    found = {*again, *(above for key in again if is_child(key) for above in rows.around(key))}
    for key in _anew(rows, found):
        found.update(rows.all_inside(key))
    return found


def _anew(rows: RowGraph, again: Collection[StepKey]) -> set[StepKey]:
    found: set[StepKey] = set()
    for key in again:
        if key in rows.inside and any(need in again for need in rows.before(key)):
            found.add(key)
            found.update(inner for inner in rows.all_inside(key) if inner in rows.inside)
    return found


@dataclass(frozen=True)
class Turns:
    """Which foreachs begin ``anew``, which go on ``waiting`` for items, and what is ``awaiting`` its item's turn."""

    anew: frozenset[StepKey]
    awaiting: frozenset[StepKey]
    waiting: frozenset[StepKey]


def turns(rows: RowGraph, again: Collection[StepKey]) -> Turns:
    """Decide for the steps that are taken up whose turn it is not yet.

    Items have their turn when their foreach begins anew, when max_parallel lets them, and not before that is around
    them.
    """
    anew, awaiting = _anew(rows, again), set[StepKey]()
    foreachs = sorted((key for key in rows.inside if key in again), key=lambda key: key.count("["))
    for foreach in foreachs:  # the outer ones first
        if foreach in anew or foreach in awaiting or _is_bounded(rows.plan.plan, foreach):
            awaiting.update(each for each in rows.inside[foreach] if each in again and _is_first(rows, again, each))
    # One that never had items is asked for its list as if it never had been.
    anew.update(key for key in again if key not in rows.inside and rows.plan.plan.is_foreach(key))
    return Turns(frozenset(anew), frozenset(awaiting), frozenset(foreachs) - anew)


def _is_bounded(plan: Plan, foreach: StepKey) -> bool:
    terms = plan.step(foreach).foreach
    return terms is not None and terms.max_parallel is not None


def _is_first(rows: RowGraph, again: Collection[StepKey], key: StepKey) -> bool:
    """Whether a step of an item begins with its turn: the item itself, or what waits for nothing else of its body."""
    return is_item(key) or not any(need in again and is_child(need) for need in _beside(rows, key))


def _beside(rows: RowGraph, key: StepKey) -> Iterator[StepKey]:
    """The steps of the same item that a step waits for."""
    item = next(rows.around(key))
    return (need for need in rows.before(key) if need.rpartition(".")[0] == item)


def reopen(tx: Connection, rows: RowGraph, run_id: RunId, keys: Collection[StepKey]) -> list[Successor]:
    """Take rows up again as pending; returns them as they stand, for letting go those that wait for nothing."""

    def ids(wanted: Collection[StepKey]) -> list[StepId]:
        return [step_id(run_id, key) for key in sorted(wanted)]

    of_items = turns(rows, keys)
    taken = steps.reopen(tx, ids(keys), ids(of_items.anew), ids(of_items.awaiting))
    if not of_items.waiting:
        return taken
    counted = {step.id: step for step in children.count_turns(tx, ids(of_items.waiting))}
    taken = [counted.get(step.id, step) for step in taken]
    # A foreach that awaits a turn itself gives none: to who looks at it now, all of its items have had theirs.
    return [replace(step, released=step.children) if step.key in of_items.awaiting else step for step in taken]
