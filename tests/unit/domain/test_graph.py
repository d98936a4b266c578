"""The graph: order, ancestors, levels, cycles and stretches, against naive answers on random graphs."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.domain.action import NoopAction
from agentflow.domain.graph import Graph, components, find_cycles
from agentflow.domain.ids import StepKey
from agentflow.domain.limit import ConcurrencyLimit, RateLimit
from agentflow.domain.plan import Plan, Step
from tests.tracing import grows_as

Needs = dict[StepKey, tuple[StepKey, ...]]


def key(number: int) -> StepKey:
    return StepKey(f"s{number}")


@st.composite
def acyclic(draw: st.DrawFn) -> Needs:
    """Needs in which steps stand in any order: a hidden rank keeps them acyclic."""
    size = draw(st.integers(min_value=1, max_value=12))
    ranks = draw(st.permutations(range(size)))
    needs: Needs = {}
    for number in range(size):
        lower = [key(other) for other in range(size) if ranks[other] < ranks[number]]
        needs[key(number)] = tuple(draw(st.lists(st.sampled_from(lower), unique=True, max_size=4)) if lower else ())
    return needs


@st.composite
def any_needs(draw: st.DrawFn) -> Needs:
    size = draw(st.integers(min_value=1, max_value=8))
    keys = [key(number) for number in range(size)]
    return {one: tuple(draw(st.lists(st.sampled_from(keys), unique=True, max_size=3))) for one in keys}


def reachable(needs: Needs, start: StepKey) -> frozenset[StepKey]:
    found: set[StepKey] = set()
    work = list(needs[start])
    while work:
        found.add(one := work.pop())
        work.extend(need for need in needs[one] if need not in found)
    return frozenset(found)


def plan_of(needs: Needs, when: dict[StepKey, str] | None = None) -> Plan:
    when = when or {}
    steps = [
        Step(id=one, needs=wanted, action=NoopAction(), when=when.get(one, "succeeded"))
        for one, wanted in needs.items()
    ]
    return Plan(name="p", steps=tuple(steps))


@given(acyclic())
def test_the_order_puts_every_step_after_its_needs(needs: Needs) -> None:
    order = Graph(plan_of(needs)).order
    assert sorted(order) == sorted(needs)
    assert all(order.index(need) < order.index(one) for one, wanted in needs.items() for need in wanted)


@given(acyclic())
def test_the_order_prefers_the_step_that_was_written_first(needs: Needs) -> None:
    written, done = list(needs), list[StepKey]()
    for one in Graph(plan_of(needs)).order:
        free = [other for other in written if other not in done and set(needs[other]) <= set(done)]
        assert one == free[0]
        done.append(one)


@given(any_needs())
def test_ancestors_are_what_can_be_reached_even_in_cycles(needs: Needs) -> None:
    graph = Graph(needs)
    for one in needs:
        expected = reachable(needs, one)
        assert graph.ancestors(one) == expected
        assert {other for other in needs if graph.is_ancestor(other, of=one)} == expected


@given(acyclic())
def test_levels_put_a_step_one_below_its_deepest_need(needs: Needs) -> None:
    depth = {one: level for level, keys in enumerate(Graph(needs).levels) for one in keys}
    assert all(depth[one] == 1 + max((depth[need] for need in wanted), default=-1) for one, wanted in needs.items())


@given(acyclic())
def test_dependents_are_needs_turned_round(needs: Needs) -> None:
    graph = Graph(needs)
    edges = {(need, one) for one, wanted in needs.items() for need in wanted}
    assert {(one, dependent) for one, all_ in graph.dependents.items() for dependent in all_} == edges
    assert set(graph.roots) == {one for one, wanted in needs.items() if not wanted}
    assert set(graph.sinks) == set(needs) - {need for need, _ in edges}


@given(acyclic(), st.integers(min_value=1, max_value=5))
def test_stretches_from_their_heads_cover_every_step_once(needs: Needs, limit: int) -> None:
    graph = Graph(needs)
    covered: list[StepKey] = []
    for one in graph.order:
        if one not in covered:
            stretch = graph.stretch_from(one, lambda _: "commands", limit)
            assert stretch[0] == one
            assert len(stretch) <= limit
            assert all(graph.needs[later] == (before,) for before, later in itertools.pairwise(stretch))
            assert all(graph.dependents[before] == (later,) for before, later in itertools.pairwise(stretch))
            covered.extend(stretch)
    assert sorted(covered) == sorted(needs)


def test_a_stretch_ends_before_another_queue_a_condition_a_fork_and_a_join() -> None:
    a, b, c, d, e, f = (StepKey(name) for name in "abcdef")
    chain: Needs = {a: (), b: (a,), c: (b,), d: (c,)}
    queues = {a: "commands", b: "commands", c: "models", d: "models"}
    assert Graph(plan_of(chain)).stretch_from(a, lambda one: queues[one]) == (a, b)
    assert Graph(plan_of(chain, {c: "failed"})).stretch_from(a, lambda _: "q") == (a, b)
    assert Graph(plan_of(chain)).stretch_from(a, lambda _: "q", limit=3) == (a, b, c)
    forked: Needs = {a: (), b: (a,), c: (b,), d: (b,), e: (c, d), f: (e,)}
    graph = Graph(plan_of(forked))
    assert [graph.stretch_from(one, lambda _: "q") for one in (a, c, e)] == [(a, b), (c,), (e, f)]


def test_a_stretch_may_begin_with_a_limited_step_and_ends_before_the_next() -> None:
    """A step that might have to wait is a message's first; what follows it would wait with it."""
    rate, places = (
        {"rate_limit": RateLimit(limit=1, per_seconds=1)},
        {"concurrency": ConcurrencyLimit(key="k", limit=1)},
    )
    limits: list[dict[str, Any]] = [rate, {}, {}, places, {}, rate]
    steps = [
        Step(id=key(n), needs=(key(n - 1),) if n else (), action=NoopAction(), **limit)
        for n, limit in enumerate(limits)
    ]
    graph = Graph(Plan(name="p", steps=tuple(steps)))

    stretches = [graph.stretch_from(key(n), lambda _: "q") for n in (0, 3, 5)]

    assert stretches == [(key(0), key(1), key(2)), (key(3), key(4)), (key(5),)]


@given(any_needs())
def test_components_are_the_sets_of_steps_that_reach_each_other(needs: Needs) -> None:
    reach = {one: reachable(needs, one) for one in needs}
    found = [frozenset(component) for component in components(needs)]
    assert sorted(one for component in found for one in component) == sorted(needs)
    for component in found:
        for one in component:
            assert component == {one} | {other for other in reach[one] if one in reach[other]}
    position = {one: place for place, component in enumerate(found) for one in component}
    assert all(position[need] <= position[one] for one, wanted in needs.items() for need in wanted)


@given(any_needs())
def test_cycles_are_found_exactly_where_steps_reach_themselves(needs: Needs) -> None:
    cycles = find_cycles(needs)
    circular = {one for one in needs if one in reachable(needs, one)}
    assert bool(cycles) == bool(circular)
    for cycle in cycles:
        assert all(following in needs[one] for one, following in zip(cycle, (*cycle[1:], cycle[0]), strict=True))
        assert len(set(cycle)) == len(cycle)


def test_a_cycle_is_named_in_the_order_of_needs_from_its_first_step() -> None:
    a, b, c, d = (StepKey(name) for name in "abcd")
    assert find_cycles({d: (b,), a: (b,), b: (c,), c: (a,)}) == ((a, b, c),)
    assert find_cycles({a: (b,), b: (a,), c: (d,), d: (c,)}) == ((a, b), (c, d))


def test_a_cyclic_graph_has_no_order() -> None:
    with pytest.raises(ValueError, match="circle"):
        _ = Graph({key(0): (key(1),), key(1): (key(0),)}).order


@pytest.mark.parametrize("shape", ["chain", "cycle", "fan", "layers"])
def test_what_a_graph_takes_grows_as_its_steps_do_and_ten_thousand_need_no_recursion(shape: str) -> None:
    assert grows_as(lambda size: _order(shape, size))
    _order(shape, 10_000)


def _order(shape: str, size: int) -> None:
    needs: dict[str, Needs] = {
        "chain": {key(n): (key(n - 1),) if n else () for n in range(size)},
        "cycle": {key(n): (key((n - 1) % size),) for n in range(size)},
        "fan": {key(n): (key(0),) if n else () for n in range(size)},
        "layers": {key(n): tuple(key(n - 10 - n % 10 + i) for i in range(10)) if n >= 10 else () for n in range(size)},
    }
    graph = Graph(needs[shape])
    if shape == "cycle":
        assert len(find_cycles(needs[shape])[0]) == size
    else:
        assert len(graph.order) == size
        assert graph.levels
    assert graph.is_ancestor(key(0), of=key(size - 1))
