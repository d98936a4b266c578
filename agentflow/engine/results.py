"""Results: what the items of a foreach came to, as a list in their order, for whoever refers to ``steps.ID.results``.

Owns which rows an item's result is read from. The results of model calls are in no row: they are read from the content
store when they are used, and go nowhere but into the work that asked for them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import Connection

from agentflow.domain.child import body_key, item_key
from agentflow.domain.graph import Graph
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.plan import Plan
from agentflow.domain.state import StepState
from agentflow.storage import steps

Facts = Mapping[StepKey, steps.StepFacts]


def read_result_rows(
    tx: Connection, run_id: RunId, plan: Plan, facts: Facts, foreachs: Iterable[StepKey]
) -> dict[StepKey, steps.StepFacts]:
    """Read the rows that the results of ``foreachs`` are in, whose own facts are given; a statement for each depth."""
    found = dict(facts)
    wanted = set(foreachs)
    while wanted:
        rows = [row for foreach in wanted if foreach in found for row in _rows(plan, found[foreach])]
        found |= steps.read_facts(tx, run_id, rows)
        wanted = {row for row in rows if plan.is_foreach(row)}
    return found


def results(plan: Plan, facts: Facts, foreach: StepKey, result_of: Callable[[steps.StepFacts], Any]) -> list[Any]:
    """Return the results of a foreach's items in their order; null for one that has none or did not succeed."""
    found: list[Any] = []
    for row in _rows(plan, facts[foreach]):
        of_row = facts.get(row)
        if of_row is None or of_row.state is not StepState.SUCCEEDED:
            found.append(None)
        else:
            found.append(results(plan, facts, row, result_of) if plan.is_foreach(row) else result_of(of_row))
    return found


def _rows(plan: Plan, foreach: steps.StepFacts) -> Iterator[StepKey]:
    """The row that each item's result is that of: its own, or that of its body's last step that none waits for."""
    terms = plan.step(foreach.key).foreach
    end = Graph(terms.steps).sinks[-1] if terms is not None and terms.steps else None
    for item in range(foreach.items or 0):
        key = item_key(foreach.key, item)
        yield key if end is None else body_key(key, end)
