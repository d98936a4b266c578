"""Row graph: a run's steps with those that its foreachs made, who waits for whom, and who stands inside of whom.

Follows from the names and the plan, so that no edge is read. Knows nothing of states.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from agentflow.domain.child import body_key, is_child, is_item, parent, plan_id
from agentflow.domain.graph import Graph
from agentflow.domain.ids import StepKey
from agentflow.engine.context import PlanView


@dataclass(frozen=True)
class RowGraph:
    """``graph`` holds every row: a foreach waits for its items, an item with a body for the last steps of that, and
    the first steps of an item for what their foreach waited for.

    ``inside`` names for each foreach that has items these, and the steps of their bodies; ``starts`` for each step what
    it waits for before it begins.
    """

    plan: PlanView
    graph: Graph
    inside: Mapping[StepKey, tuple[StepKey, ...]]
    starts: Mapping[StepKey, tuple[StepKey, ...]]

    def before(self, key: StepKey) -> tuple[StepKey, ...]:
        """What a step waits for before it begins: not what stands inside of it."""
        return self.starts[key]

    def around(self, key: StepKey) -> Iterator[StepKey]:
        """The items with bodies and the foreachs around a step, the innermost first."""
        while is_child(key):
            above = parent(key)
            if above is None:
                return
            yield above
            key = above

    def all_inside(self, key: StepKey) -> Iterator[StepKey]:
        """Every row inside of a foreach or of an item with a body, at any depth."""
        work = [key]
        while work:
            key = work.pop()
            foreach = parent(key) if self.plan.plan.is_body(key) else None
            found = self.inside.get(key, ()) if foreach is None else self._of_item(foreach, key)
            yield from found
            work.extend(each for each in found if each in self.inside)

    def _of_item(self, foreach: StepKey, item: StepKey) -> tuple[StepKey, ...]:
        terms = self.plan.plan.step(foreach).foreach
        return tuple(body_key(item, step.id) for step in terms.steps) if terms is not None else ()


def row_graph(plan: PlanView, keys: Iterable[StepKey]) -> RowGraph:
    """Return the graph of a run with the steps ``keys``; the plan's own where no foreach has made any."""
    children = sorted(key for key in keys if is_child(key))
    if not children:
        return RowGraph(plan, plan.graph, {}, plan.graph.needs)
    needs: dict[StepKey, list[StepKey]] = {key: list(wanted) for key, wanted in plan.graph.needs.items()}
    starts = dict(plan.graph.needs)
    inside: dict[StepKey, list[StepKey]] = defaultdict(list)
    for key in sorted(children, key=lambda each: each.count("[")):  # a foreach before its items
        foreach = _foreach_of(key)
        inside[foreach].append(key)
        starts[key] = _begins_after(plan, key, starts[foreach])
        if plan.plan.is_body(key):
            needs.setdefault(key, []).extend(body_key(key, end) for end in plan.body_graph(foreach).sinks)
        else:
            needs.setdefault(key, []).extend(starts[key])
        if is_item(key):
            needs[foreach].append(key)
    return RowGraph(plan, Graph(needs), {key: tuple(found) for key, found in inside.items()}, starts)


def _foreach_of(key: StepKey) -> StepKey:
    """The foreach that made a step: that of the item that it is, or that it is in the body of."""
    above = parent(key)
    if above is not None and not is_item(key):
        above = parent(above)
    if above is None:
        raise LookupError(f"no foreach made {key}")
    return above


def _begins_after(plan: PlanView, key: StepKey, of_foreach: tuple[StepKey, ...]) -> tuple[StepKey, ...]:
    """What a step of an item waits for: the steps of its body that it needs, and where it needs none, its foreach's."""
    item = parent(key)
    if is_item(key) or item is None:
        return of_foreach
    wanted = plan.plan.step(plan_id(key)).needs
    return tuple(body_key(item, need) for need in wanted) or of_foreach
