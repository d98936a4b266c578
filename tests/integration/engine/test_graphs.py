"""Shapes that are decided at run time: switches and merges, foreachs, waits."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from agentflow.domain.state import RunState, StepState
from agentflow.runtime import Runtime
from tests.factories import attempt_rows, command_step, noop_step, shell_step, step_rows, submitted, wait_for_end
from tests.integration.engine.conftest import Station


def _states(house: Runtime, run_id: Any) -> dict[str, str]:
    return {key: row.state for key, row in step_rows(house.context, run_id).items()}


def _says(key: str, value: Any, needs: list[str] | None = None) -> dict[str, Any]:
    return command_step(key, "echo", json.dumps(value), needs=needs or [], outputs="stdout_json")


def test_a_merge_after_a_switch_waits_for_the_branch_that_was_taken(station: Station) -> None:
    steps = [
        _says("classify", {"kind": "edit"}),
        {
            "id": "route",
            "needs": ["classify"],
            "switch": {"on": "steps.classify.result.kind", "cases": {"create": "make", "edit": ["change"]}},
        },
        noop_step("make", needs=["route"]),
        noop_step("polish", needs=["make"]),
        noop_step("change", needs=["route"]),
        noop_step("merge", needs=["polish", "change"], when="taken"),
        noop_step("strict", needs=["polish", "change"]),
    ]

    run_id = submitted(station.house.context, steps)

    assert wait_for_end(station.house.context, run_id, 30) is RunState.COMPLETED
    assert _states(station.house, run_id) == {
        "classify": "succeeded",
        "route": "succeeded",
        "make": "skipped",
        "polish": "skipped",
        "change": "succeeded",
        "merge": "succeeded",
        "strict": "skipped",
    }
    rows = step_rows(station.house.context, run_id)
    assert rows["route"].choice == "edit"
    assert rows["route"].attempts == 0


def test_a_value_that_names_no_label_fails_the_switch(station: Station) -> None:
    steps = [
        _says("classify", {"kind": "else"}),
        {"id": "route", "needs": ["classify"], "switch": {"on": "steps.classify.result.kind", "cases": {"a": ["x"]}}},
        noop_step("x", needs=["route"]),
    ]

    run_id = submitted(station.house.context, steps)

    assert wait_for_end(station.house.context, run_id, 30) is RunState.FAILED
    assert step_rows(station.house.context, run_id)["route"].reason["code"] == "no_label"


def test_a_foreach_does_its_step_once_for_each_item(station: Station) -> None:
    steps = [
        _says("list", ["a", "b", "c"]),
        {
            "id": "each",
            "needs": ["list"],
            "foreach": {"items": "steps.list.result", "max_parallel": 2},
            "subprocess": {"command": ["echo", "{{ item }}-{{ index }}"]},
        },
        noop_step("after", needs=["each"]),
    ]

    run_id = submitted(station.house.context, steps)

    assert wait_for_end(station.house.context, run_id, 30) is RunState.COMPLETED
    assert _states(station.house, run_id) == {
        "list": "succeeded", "each": "succeeded", "each[0]": "succeeded", "each[1]": "succeeded",
        "each[2]": "succeeded", "after": "succeeded",
    }  # fmt: skip
    assert Counter(row.state for row in attempt_rows(station.house.context, run_id)) == {"succeeded": 5}


def test_foreachs_nest_and_see_the_items_around_them(station: Station) -> None:
    steps = [
        {
            "id": "outer",
            "foreach": [1, 2],
            "steps": [
                _says("prepare", ["x", "y", "z"]),
                {
                    "id": "inner",
                    "needs": ["prepare"],
                    "foreach": {"items": "steps.prepare.result", "max_parallel": 1},
                    "steps": [
                        shell_step("work", "echo '{{ loops.outer.item }}{{ item }}'"),
                        shell_step("check", 'test "$SAID" = "{{ loops.outer.item }}{{ item }}"', needs=["work"],
                                   env={"SAID": "{{ steps.work.stdout }}"}),
                    ],
                },
            ],
        },
        noop_step("after", needs=["outer"]),
    ]  # fmt: skip

    run_id = submitted(station.house.context, steps)

    assert wait_for_end(station.house.context, run_id, 60) is RunState.COMPLETED
    states = _states(station.house, run_id)
    assert set(states.values()) == {StepState.SUCCEEDED}
    assert len(states) == 2 + 2 * (1 + 2 + 3 * 3)


def test_a_wait_takes_its_time_and_no_attempt(station: Station) -> None:
    steps = [
        noop_step("first"),
        {"id": "pause", "needs": ["first"], "wait": {"for": "1s"}},
        noop_step("last", ["pause"]),
    ]

    run_id = submitted(station.house.context, steps)

    assert wait_for_end(station.house.context, run_id, 30) is RunState.COMPLETED
    rows = {row.key: row for row in step_rows(station.house.context, run_id).values()}
    assert rows["pause"].attempts == 0
