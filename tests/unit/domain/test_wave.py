"""Waves of a plan: the joins between them, and the faults."""

from __future__ import annotations

from typing import Any

from agentflow.domain.graph import Graph
from agentflow.domain.plan import MAX_STEPS
from agentflow.domain.plan_document import PlanReading, read_plan


def _step(key: str, wave: int | None = None, **fields: Any) -> dict[str, Any]:
    return {"id": key, "noop": {}, **({} if wave is None else {"wave": wave}), **fields}


def _read(*steps: dict[str, Any]) -> PlanReading:
    return read_plan({"agentflow": 1, "name": "waved", "steps": list(steps)})


def _codes(*steps: dict[str, Any]) -> list[tuple[str, str | None]]:
    return [(fault.code, fault.step) for fault in _read(*steps).faults]


def test_a_wave_starts_when_the_one_before_it_has_ended() -> None:
    plan = _read(_step("a", 1), _step("b", 1), _step("c", 5), _step("d", 2)).plan

    assert plan is not None
    needs = {step.id: step.needs for step in plan.steps}
    assert needs == {
        "a": (), "b": (), "wave-1-end": ("a", "b"), "c": ("wave-2-end",), "d": ("wave-1-end",), "wave-2-end": ("d",),
    }  # fmt: skip
    assert {step.when for step in plan.steps if step.id.endswith("-end")} == {"always"}


def test_the_edges_between_waves_grow_with_the_steps_and_not_with_their_square() -> None:
    plan = _read(*(_step(f"s{wave}_{n}", wave) for wave in (1, 2, 3) for n in range(300))).plan

    assert plan is not None
    assert sum(len(step.needs) for step in plan.steps) == 4 * 300


def test_a_step_may_need_and_read_those_of_an_earlier_wave() -> None:
    asks = _step("c", 2, needs=["a"], when="steps.b.state == 'failed'")
    plan = _read(_step("a", 1), _step("b", 1), asks).plan

    assert plan is not None
    assert plan.step(asks["id"]).needs == ("a", "wave-1-end")
    assert Graph(plan).is_ancestor(plan.step(asks["id"]).needs[0], of=plan.step(asks["id"]).id)


def test_once_a_step_writes_a_wave_every_step_must() -> None:
    assert _codes(_step("a", 1), _step("b"), _step("c", 2)) == [("missing_wave", "b")]


def test_a_step_cannot_need_one_that_starts_with_it_or_after_it() -> None:
    assert _codes(_step("a", 1), _step("b", 1, needs=["a"]), _step("c", 2), _step("d", 1, needs=["c"])) == [
        ("wave_contradiction", "b"),
        ("wave_contradiction", "d"),
    ]


def test_a_condition_of_the_first_wave_would_not_be_asked() -> None:
    assert _codes(_step("a", 1), _step("b", 1, when="failed"), _step("c", 2, when="any")) == [
        ("when_without_needs", "b")
    ]


def test_waves_are_of_the_plan_and_not_of_a_body() -> None:
    body = {"id": "each", "foreach": [1], "steps": [_step("inner", 1)]}

    assert _codes(body) == [("wave_in_body", "inner")]


def test_a_step_cannot_be_called_as_a_join_is() -> None:
    assert _codes(_step("wave-1-end", 1), _step("b", 2)) == [("duplicate_id", "wave-1-end")]


def test_a_wave_is_a_number_from_one_on() -> None:
    assert [code for code, _ in _codes(_step("a", 0), _step("b", 1))] == ["bad_value"]


def test_the_joins_count_among_the_steps_of_a_plan() -> None:
    reading = _read(*(_step(f"s{n}", 1 + n % 2) for n in range(MAX_STEPS)))

    assert [fault.code for fault in reading.faults] == ["too_many_steps"]
