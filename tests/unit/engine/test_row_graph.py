"""Who waits for whom among the steps that foreachs made, and what a retry makes of it; also with very many."""

from __future__ import annotations

from collections.abc import Iterable

from agentflow.domain.ids import StepKey
from agentflow.engine.context import PlanView
from agentflow.engine.row_graph import RowGraph, row_graph
from agentflow.engine.take_up import turns, with_foreachs
from tests.factories import noop_step, planned
from tests.integration.engine.foreach_play import each
from tests.tracing import grows_as

NESTED = each("o", [1, 2], noop_step("x"), each("i", [1], needs=("x",), max_parallel=1), needs=("a",))
ROWS = "a o z o[0] o[0].x o[0].i o[0].i[0] o[1] o[1].x o[1].i o[1].i[0]"


def _rows(keys: str) -> RowGraph:
    plan, _ = planned([noop_step("a"), NESTED, noop_step("z", ["o"])])
    return row_graph(PlanView(plan), _keys(keys.split()))


def _keys(names: Iterable[str]) -> set[StepKey]:
    return {StepKey(name) for name in names}


def test_a_foreach_waits_for_its_items_and_they_for_what_it_waited_for() -> None:
    rows = _rows(ROWS)

    assert rows.graph.needs[StepKey("o")] == ("a", "o[0]", "o[1]")
    assert rows.graph.needs[StepKey("o[0].x")] == ("a",)
    assert rows.graph.needs[StepKey("o[0]")] == ("o[0].i",)
    assert rows.graph.needs[StepKey("o[0].i")] == ("o[0].x", "o[0].i[0]")
    assert rows.before(StepKey("o[0].i")) == ("o[0].x",)
    assert list(rows.around(StepKey("o[1].i[0]"))) == ["o[1].i", "o[1]", "o"]
    assert set(rows.all_inside(StepKey("o[1]"))) == _keys(["o[1].x", "o[1].i", "o[1].i[0]"])


def test_what_is_taken_up_inside_takes_up_what_is_around_it_and_nothing_else() -> None:
    assert with_foreachs(_rows(ROWS), _keys(["o[0].i[0]"])) == _keys(["o[0].i[0]", "o[0].i", "o[0]", "o"])


def test_a_foreach_behind_what_runs_again_begins_anew_with_all_inside() -> None:
    rows = _rows(ROWS)

    again = with_foreachs(rows, _keys(["o[0].x", "o[0].i"]))

    assert again == _keys(["o", "o[0]", "o[0].x", "o[0].i", "o[0].i[0]"])
    decided = turns(rows, again)
    assert (decided.anew, decided.awaiting, decided.waiting) == (_keys(["o[0].i"]), _keys(["o[0].i[0]"]), _keys(["o"]))


def _decide_a_retry(items: int) -> None:
    plan, _ = planned([noop_step("a"), each("e", [1], needs=("a",), max_parallel=5)])
    view, keys = PlanView(plan), [StepKey(f"e[{item}]") for item in range(items)]
    rows = row_graph(view, [StepKey("a"), StepKey("e"), *keys])
    again = with_foreachs(rows, keys)
    assert (len(again), len(turns(rows, again).awaiting)) == (items + 1, items)


def test_what_a_retry_of_many_items_takes_to_decide_grows_as_they_do() -> None:
    assert grows_as(_decide_a_retry)  # with each item looking at each other it would be sixteen times as many
