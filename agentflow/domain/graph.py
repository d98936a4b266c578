"""The graph of a plan: who needs whom, and what follows from it.

Owns order, ancestors, levels, sinks, cycles and straight stretches; all of it iterative, so that a chain of ten
thousand steps is no special case. Knows nothing of states: what is ready is the transition table's.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

from agentflow.domain.ids import StepKey
from agentflow.domain.plan import Plan, Step

Needs = Mapping[StepKey, Sequence[StepKey]]


class Graph:
    """The steps of one plan by position, with their needs (predecessors) and dependents (successors)."""

    def __init__(self, plan: Plan | Sequence[Step] | Needs) -> None:
        """Build the graph of ``plan``, of a body, or of bare needs; those that name no step of it are left out."""
        needs: Needs
        if not isinstance(plan, Mapping):
            steps = plan.steps if isinstance(plan, Plan) else plan
            needs = {step.id: step.needs for step in steps}
            self._when = {step.id: step.when for step in steps}
            self._limited = frozenset(step.id for step in steps if step.rate_limit or step.concurrency)
        else:
            needs = {key: [need for need in wanted if need in plan] for key, wanted in plan.items()}
            self._when = {}
            self._limited = frozenset()
        self.keys: tuple[StepKey, ...] = tuple(needs)
        self.needs: Mapping[StepKey, tuple[StepKey, ...]] = {key: tuple(wanted) for key, wanted in needs.items()}
        dependents: dict[StepKey, list[StepKey]] = {key: [] for key in self.keys}
        for key, wanted in self.needs.items():
            for need in wanted:
                dependents[need].append(key)
        self.dependents: Mapping[StepKey, tuple[StepKey, ...]] = {key: tuple(all_) for key, all_ in dependents.items()}

    @cached_property
    def _position(self) -> dict[StepKey, int]:
        return {key: position for position, key in enumerate(self.keys)}

    @cached_property
    def roots(self) -> tuple[StepKey, ...]:
        """The steps that need none."""
        return tuple(key for key in self.keys if not self.needs[key])

    @cached_property
    def sinks(self) -> tuple[StepKey, ...]:
        """The steps that none needs."""
        return tuple(key for key in self.keys if not self.dependents[key])

    @cached_property
    def order(self) -> tuple[StepKey, ...]:
        """Every step after its needs; among those that could come next, the one written first. ValueError if cyclic."""
        missing = {key: len(wanted) for key, wanted in self.needs.items()}
        ready = [self._position[key] for key in self.roots]
        order: list[StepKey] = []
        while ready:
            key = self.keys[heapq.heappop(ready)]
            order.append(key)
            for dependent in self.dependents[key]:
                missing[dependent] -= 1
                if not missing[dependent]:
                    heapq.heappush(ready, self._position[dependent])
        if len(order) != len(self.keys):
            raise ValueError("the steps need each other in a circle")
        return tuple(order)

    @cached_property
    def levels(self) -> tuple[tuple[StepKey, ...], ...]:
        """The steps by the length of the longest way to them from a root."""
        depth: dict[StepKey, int] = {}
        for key in self.order:
            depth[key] = 1 + max((depth[need] for need in self.needs[key]), default=-1)
        levels: list[list[StepKey]] = [[] for _ in range(1 + max(depth.values(), default=-1))]
        for key in self.keys:
            levels[depth[key]].append(key)
        return tuple(tuple(level) for level in levels)

    @cached_property
    def _ancestor_bits(self) -> dict[StepKey, int]:
        """For each step the positions of its ancestors as bits; ten thousand steps in a chain take some 6 MB."""
        bits: dict[StepKey, int] = {}
        for component in components(self.needs):
            mask = 0
            for key in component:
                for need in self.needs[key]:
                    mask |= 1 << self._position[need] | bits.get(need, 0)
            for key in component:
                bits[key] = mask
        return bits

    def is_ancestor(self, key: StepKey, *, of: StepKey) -> bool:
        """Whether ``of`` waits for ``key``, directly or through others. In a cycle each is its own ancestor."""
        return bool(self._ancestor_bits[of] >> self._position[key] & 1)

    def ancestors(self, key: StepKey) -> frozenset[StepKey]:
        """Return every step that ``key`` waits for, directly or through others."""
        bits = self._ancestor_bits[key]
        return frozenset(other for position, other in enumerate(self.keys) if bits >> position & 1)

    def stretch_from(self, key: StepKey, queue_of: Callable[[StepKey], str], limit: int = 16) -> tuple[StepKey, ...]:
        """Return the straight stretch that starts at ``key``, at most ``limit`` steps: what one message may carry.

        It goes on while there is exactly one successor, which has exactly one predecessor, goes to the same queue,
        starts only when its predecessor succeeded, and has no limit: it might have to wait, and what follows with it.
        """
        stretch = [key]
        queue = queue_of(key)
        while len(stretch) < limit and len(self.dependents[key]) == 1:
            key = self.dependents[key][0]
            if not self._follows_straight(key) or queue_of(key) != queue:
                break
            stretch.append(key)
        return tuple(stretch)

    def _follows_straight(self, key: StepKey) -> bool:
        starts_on_success = self._when.get(key, "succeeded") == "succeeded"
        return len(self.needs[key]) == 1 and starts_on_success and key not in self._limited


def components(needs: Needs) -> list[list[StepKey]]:
    """Return the strongly connected components, each after those that it needs (Tarjan 1972, without recursion)."""
    index: dict[StepKey, int] = {}
    low: dict[StepKey, int] = {}
    open_keys: list[StepKey] = []
    is_open: set[StepKey] = set()
    found: list[list[StepKey]] = []
    for root in needs:
        work = [] if root in index else [(root, iter(needs[root]))]
        while work:
            key, rest = work[-1]
            if key not in index:
                index[key] = low[key] = len(index)
                open_keys.append(key)
                is_open.add(key)
            for need in rest:
                if need not in index:
                    work.append((need, iter(needs[need])))
                    break
                if need in is_open:
                    low[key] = min(low[key], index[need])
            else:
                work.pop()
                if work:
                    parent = work[-1][0]
                    low[parent] = min(low[parent], low[key])
                if low[key] == index[key]:
                    found.append(_close(key, open_keys, is_open))
    return found


def _close(key: StepKey, open_keys: list[StepKey], is_open: set[StepKey]) -> list[StepKey]:
    component: list[StepKey] = []
    while not component or component[-1] != key:
        component.append(open_keys.pop())
        is_open.discard(component[-1])
    return component


def find_cycles(needs: Needs) -> tuple[tuple[StepKey, ...], ...]:
    """Return one shortest cycle for each knot of steps that need each other: a needs b, b needs c, c needs a.

    Steps that need themselves are cycles of one. Each starts at the step written first.
    """
    position = {key: place for place, key in enumerate(needs)}
    cycles = []
    for component in components(needs):
        first = min(component, key=position.__getitem__)
        if len(component) > 1 or first in needs[first]:
            cycles.append(_cycle_through(first, set(component), needs))
    return tuple(sorted(cycles, key=lambda cycle: position[cycle[0]]))


def _cycle_through(first: StepKey, component: set[StepKey], needs: Needs) -> tuple[StepKey, ...]:
    came_from: dict[StepKey, StepKey] = {}
    edge = [first]
    while first not in came_from:
        following = []
        for key in edge:
            for need in needs[key]:
                if need in component and need not in came_from:
                    came_from[need] = key
                    following.append(need)
        edge = following
    cycle = [first]
    while came_from[cycle[-1]] != first:
        cycle.append(came_from[cycle[-1]])
    return (first, *reversed(cycle[1:]))
