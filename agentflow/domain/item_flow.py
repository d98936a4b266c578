"""Where the items of a foreach come from, and which steps its results are those of.

Owns which foreachs a text sees around it, and the steps whose output an item or a list of results is: what is read
from a model stays a model's text, also as an item. Built from drafts while a plan is read, and from a stored plan.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from agentflow.domain.expression import inspect_expression
from agentflow.domain.graph import Graph
from agentflow.domain.ids import StepKey
from agentflow.domain.plan import Plan
from agentflow.domain.reference import LOOP_ROOTS, Reference

RESULTS = "results"
"""What of a foreach is the list of its items' results."""
FOREACH_ATTRIBUTES = ("state", RESULTS, "count", "failed")
_NO_OUTPUT = frozenset({"state", "count", "failed", "text_path", "stdout_path", "stderr_path", "artifacts"})
"""What of a step is not what it wrote: a word, a number or a path of agentflow's own."""


@dataclass(frozen=True, slots=True)
class FlowNode:
    """One step: the foreachs around it (outermost first); of a foreach what its list refers to, and its body's end."""

    action: str | None = None
    """Its own action: of a foreach what is done for each item."""
    around: tuple[StepKey, ...] = ()
    is_foreach: bool = False
    items: frozenset[Reference] = frozenset()
    end: StepKey | None = None
    """The step of the body whose result is an item's: the last one, in the plan's order, that none waits for."""


class ItemFlow:
    """The foreachs of one plan."""

    def __init__(self, nodes: Mapping[StepKey, FlowNode]) -> None:
        self._nodes = nodes

    def node(self, key: StepKey) -> FlowNode:
        """Return a step; one that is not known is no foreach and stands in none."""
        return self._nodes.get(key, FlowNode())

    def loops(self, key: StepKey, *, is_inside: bool) -> tuple[StepKey, ...]:
        """The foreachs whose items a text of ``key`` sees; ``is_inside``: it is rendered for each item of it."""
        node = self.node(key)
        return (*node.around, key) if node.is_foreach and is_inside else node.around

    def hidden_by(self, key: StepKey, seen_from: StepKey) -> StepKey | None:
        """The foreach in whose body ``key`` stands and ``seen_from`` does not; None where it is not hidden."""
        around = {*self.node(seen_from).around, seen_from}
        return next((foreach for foreach in self.node(key).around if foreach not in around), None)

    def results_of(self, foreach: StepKey) -> StepKey:
        """The step whose results those of a foreach are; of a foreach that ends with one, those of that."""
        node = self.node(foreach)
        while node.end is not None:
            foreach, node = node.end, self.node(node.end)
        return foreach

    def sources(self, reference: Reference, loops: Iterable[StepKey]) -> frozenset[tuple[StepKey, str]]:
        """The steps, with the attribute of each, whose output a reference is that is read inside of ``loops``."""
        if reference.root in LOOP_ROOTS:
            return self._item_sources(reference, tuple(loops))
        step, attribute = reference.step, reference.attribute
        if step is None or attribute is None or attribute in _NO_OUTPUT:
            return frozenset()
        if attribute == RESULTS and self.node(step).is_foreach:
            return frozenset({(self.results_of(step), "result")})
        return frozenset({(step, attribute)})

    def _item_sources(self, reference: Reference, loops: tuple[StepKey, ...]) -> frozenset[tuple[StepKey, str]]:
        foreach = loop_of(reference, loops)
        if foreach is None or reference.root == "index" or reference.names[1:] == ("index",):
            return frozenset()
        return self.list_sources(foreach)

    def list_sources(self, foreach: StepKey) -> frozenset[tuple[StepKey, str]]:
        """The steps whose output the list of a foreach is, directly or as an item of a foreach around it."""
        node = self.node(foreach)
        found = (self.sources(each, node.around) for each in node.items)
        return frozenset().union(*found)


def loop_of(reference: Reference, loops: tuple[StepKey, ...]) -> StepKey | None:
    """The foreach of ``loops`` that ``item``, ``index`` or ``loops.ID`` means; None where there is none."""
    if reference.root == "loops":
        wanted = StepKey(reference.names[0])
        return wanted if wanted in loops else None
    return loops[-1] if loops else None


def flow_of(plan: Plan) -> ItemFlow:
    """Return the foreachs of a stored plan."""
    nodes: dict[StepKey, FlowNode] = {}
    for step in plan.every_step:  # a foreach stands before its body
        outer = plan.foreach_around.get(step.id)
        around = () if outer is None else (*nodes[outer].around, outer)
        foreach = step.foreach
        if foreach is None:
            nodes[step.id] = FlowNode(step.action.type, around)
            continue
        items = inspect_expression(foreach.items).references if isinstance(foreach.items, str) else frozenset()
        end = Graph(foreach.steps).sinks[-1] if foreach.steps else None
        nodes[step.id] = FlowNode(step.action.type, around, is_foreach=True, items=items, end=end)
    return ItemFlow(nodes)
