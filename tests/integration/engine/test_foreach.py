"""A foreach from its list to its end: turns, results, merging, cancelling, and what it may not become."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from agentflow.domain.ids import StepKey, step_id
from agentflow.domain.plan import MAX_STEPS
from agentflow.domain.state import RunState
from agentflow.domain.why import WhyCode
from agentflow.engine.cancel import cancel_step
from agentflow.engine.verify import verify_run
from agentflow.engine.why import why
from agentflow.runtime import Runtime
from agentflow.storage import runs
from tests.factories import command_step, noop_step, run_state, step_rows, submitted, wait_for_end
from tests.integration.engine.conftest import Station
from tests.integration.engine.foreach_play import counts, each, finish, in_state, play, states, take
from tests.integration.engine.run_game import check_rows

ACTOR = "tester@test"


def _says(key: str, text: str, needs: tuple[str, ...] = (), **fields: Any) -> dict[str, Any]:
    return command_step(key, "echo", text, needs=needs, outputs="stdout_json", **fields)


def _stdin(station: Station, run_id: Any, key: str) -> Any:
    folder = station.house.settings.content_root() / "runs" / str(run_id) / "steps" / key / "1"
    return json.loads((folder / "stdout").read_text())


def test_results_are_a_list_in_the_order_of_the_items(station: Station) -> None:
    steps = [
        _says("list", "[3, 1, 2]"),
        each("plain", "steps.list.result", needs=("list",), merge="ignore_failures", outputs="stdout_json", retry=1,
             subprocess={"command": ["/bin/sh", "-c", "test {{ item }} != 1 && echo {{ item }}0"]}),
        each("outer", [[7, 8], []], each("inner", "loops.outer.item", _says("one", "[{{ item }}, {{ index }}]"),
                                          _says("two", "{{ steps.one.result }}", ("one",)))),
        command_step("told", "cat", needs=["plain", "outer"], stdin="""{"plain": {{ steps.plain.results }}, "failed":
            {{ steps.plain.failed }}, "count": {{ steps.plain.count }}, "outer": {{ steps.outer.results }}}"""),
        each("again", "steps.plain.results", needs=("plain",)),
        {**noop_step("none", ["again"]), "when": "steps.again.failed > 0"},
    ]  # fmt: skip

    run_id = submitted(station.house.context, steps)

    assert wait_for_end(station.house.context, run_id, 60) is RunState.COMPLETED
    assert _stdin(station, run_id, "told") == {
        "plain": [30, None, 20],
        "failed": 1,
        "count": 3,
        "outer": [[[7, 0], [8, 1]], []],
    }
    assert states(station.house, run_id)["none"] == "skipped"
    assert counts(station.house, run_id)["failed"] == 1


def test_items_whose_action_the_engine_decides_wait_each_for_themselves(station: Station) -> None:
    run_id = submitted(station.house.context, [each("w", [1, 2, 3], wait={"for": "200ms"}, max_parallel=2)])

    assert wait_for_end(station.house.context, run_id, 30) is RunState.COMPLETED
    assert counts(station.house, run_id) == {"succeeded": 4}


def test_items_of_one_foreach_share_its_rate_and_its_concurrency_key(station: Station) -> None:
    step = each("e", [*range(6)], command_step("a", "true", concurrency={"key": "few", "limit": 2}, rate_limit="600/m"))

    run_id = submitted(station.house.context, [step])

    assert wait_for_end(station.house.context, run_id, 60) is RunState.COMPLETED
    rows = step_rows(station.house.context, run_id)
    assert {row.slot_key for key, row in rows.items() if key.endswith(".a")} == {"few"}
    assert len({row.rate_key for key, row in rows.items() if key.endswith(".a")}) == 1


def test_only_so_many_items_are_under_way_at_once(house: Runtime) -> None:
    run_id = submitted(house.context, [each("e", [*range(5)], noop_step("a"), noop_step("b", ["a"]), max_parallel=2)])

    assert in_state(house, run_id, "ready") == ["e[0].a", "e[1].a"]
    for key in ("e[1].a", "e[1].b"):
        finish(house, take(house, run_id, key))
    check_rows(house, run_id)
    assert in_state(house, run_id, "ready") == ["e[0].a", "e[2].a"]
    play(house, run_id)
    assert run_state(house.context, run_id) is RunState.COMPLETED
    assert verify_run(house.context, run_id).findings == ()


def test_a_foreach_over_nothing_succeeds(house: Runtime) -> None:
    run_id = submitted(house.context, [each("e", []), noop_step("after", ["e"])])

    assert play(house, run_id) == [["after"]]
    assert states(house, run_id) == {"e": "succeeded", "after": "succeeded"}


def test_how_items_merge(house: Runtime) -> None:
    for merge, end, run in (
        ("fail_on_any", "failed", RunState.FAILED),
        ("partial", "succeeded", RunState.PARTIAL),
        ("ignore_failures", "succeeded", RunState.COMPLETED),
    ):
        run_id = submitted(house.context, [each("e", [1, 2], merge=merge)])
        play(house, run_id, {"e[0]": "failed"})
        assert states(house, run_id) == {"e": end, "e[0]": "failed", "e[1]": "succeeded"}
        assert run_state(house.context, run_id) is run
    all_failed = submitted(house.context, [each("e", [1, 2], merge="partial")])
    play(house, all_failed, {"e[0]": "failed", "e[1]": "failed"})
    assert run_state(house.context, all_failed) is RunState.FAILED


@pytest.mark.parametrize("items", ['{{ [1, "sentinel\\ud800"] }}', "{{ [1, 1e308 * 10] }}"])
def test_a_list_with_an_item_that_cannot_be_kept_fails_its_step(house: Runtime, items: str) -> None:
    run_id = submitted(house.context, [each("e", items)])

    row = step_rows(house.context, run_id)["e"]
    assert (row.state, row.reason["code"]) == ("failed", "items")
    assert row.reason["detail"]["problem"].startswith("its item 1 holds ")
    assert "sentinel" not in str(row.reason)
    assert run_state(house.context, run_id) is RunState.FAILED


def test_a_run_with_its_items_never_has_more_steps_than_a_run_may_have(house: Runtime) -> None:
    many = MAX_STEPS // 2
    steps = [noop_step("a"), {**each("e", [0] * many, noop_step("b"), needs=("a",)), "on_failure": "continue"}]
    steps[1]["foreach"]["max_children"] = many

    run_id = submitted(house.context, steps)
    play(house, run_id)

    row = step_rows(house.context, run_id)["e"]
    assert (row.state, row.reason["code"]) == ("failed", "items")
    assert f"{2 + 2 * many} steps" in row.reason["detail"]["problem"]
    assert counts(house, run_id) == {"succeeded": 1, "failed": 1}


def test_the_end_of_an_items_body_does_not_hold_the_run_for_itself(house: Runtime) -> None:
    run_id = submitted(house.context, [each("e", [1, 2, 3], noop_step("a"), max_parallel=2)])
    claimed = take(house, run_id, "e[0].a")
    with house.context.database.transaction() as tx:
        runs.lock(tx, run_id, is_shared=True)  # as any other settle does
        other = threading.Thread(target=finish, args=(house, claimed))
        other.start()
        other.join(timeout=20)
        assert not other.is_alive(), "the items of a foreach wait for each other"
    assert in_state(house, run_id, "ready") == ["e[1].a", "e[2].a"]


def test_a_cancelled_item_counts_neither_as_done_nor_as_failed(house: Runtime) -> None:
    steps = [noop_step("x"), each("e", [1, 2, 3], max_parallel=1), noop_step("after", ["e"])]
    run_id = submitted(house.context, steps)
    finish(house, take(house, run_id, "x"))

    cancel_step(house.context, step_id(run_id, StepKey("e[1]")), ACTOR)

    check_rows(house, run_id)
    assert in_state(house, run_id, "ready") == ["e[0]"]  # nobody else has a turn for it
    assert play(house, run_id) == [["e[0]"], ["e[2]"]]
    assert states(house, run_id)["e"] == "cancelled"
    assert states(house, run_id)["after"] == "skipped"
    assert run_state(house.context, run_id) is RunState.PARTIAL


def test_cancelling_a_foreach_cancels_what_waits_in_it_and_stops_what_runs(house: Runtime) -> None:
    run_id = submitted(house.context, [each("e", [1, 2, 3], noop_step("a"), noop_step("b", []), max_parallel=2)])
    running = take(house, run_id, "e[0].a")

    asked = cancel_step(house.context, step_id(run_id, StepKey("e")), ACTOR)

    assert (asked.is_new, asked.stopping) == (True, 1)
    check_rows(house, run_id)
    assert states(house, run_id)["e"] == states(house, run_id)["e[0]"] == "pending"
    assert not cancel_step(house.context, step_id(run_id, StepKey("e")), ACTOR).is_new
    finish(house, running, "cancelled")
    assert counts(house, run_id) == {"cancelled": 10}
    assert run_state(house.context, run_id) is RunState.FAILED
    assert verify_run(house.context, run_id).findings == ()


def test_cancelling_an_item_with_a_body_leaves_the_others(house: Runtime) -> None:
    run_id = submitted(house.context, [each("e", [1, 2], noop_step("a"), noop_step("b", ["a"]), merge="partial")])

    cancel_step(house.context, step_id(run_id, StepKey("e[0]")), ACTOR)

    check_rows(house, run_id)
    assert play(house, run_id) == [["e[1].a"], ["e[1].b"]]
    assert states(house, run_id)["e[0]"] == "cancelled"
    assert run_state(house.context, run_id) is RunState.PARTIAL


def test_why_says_what_a_foreach_waits_for_and_whose_turn_it_is_not(house: Runtime) -> None:
    run_id = submitted(house.context, [each("e", [*range(5)], noop_step("a"), max_parallel=2), noop_step("z", ["e"])])
    finish(house, take(house, run_id, "e[0].a"))

    told = {key: why(house.context, run_id, StepKey(key)) for key in ("e", "e[4].a", "e[4]", "z")}

    assert told["e"].why.code is WhyCode.ITEMS_OPEN
    assert told["e"].why.detail | {"root": ""} == {"items": 5, "done": 1, "awaiting": 2, "root": ""}
    assert "1 of 5 are done, 2 await their turn" in told["e"].sentence
    for key in ("e[4].a", "e[4]"):
        assert told[key].why.code is WhyCode.AWAITS_TURN
        assert told[key].why.detail == {"foreach": "e", "item": 4, "under_way": 2, "awaiting": 2}
    assert told["z"].why.code is WhyCode.NEEDS_UNMET
    of_run = {group.why.code: group.count for group in why(house.context, run_id).groups}
    assert of_run[WhyCode.AWAITS_TURN] == 4  # two items, and the first step of each
