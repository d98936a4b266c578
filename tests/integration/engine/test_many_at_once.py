"""Steps that wait begin together: however many they are, the database is asked as often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event

from agentflow.runtime import Runtime
from tests.factories import noop_step, shell_step, step_rows
from tests.integration.engine.foreach_play import each, finish, take
from tests.integration.engine.test_child_runs import loaded, submitted

Steps = Callable[[int], list[dict[str, Any]]]


def _gates(many: int) -> list[dict[str, Any]]:
    terms = {"expires": "1h", "artifacts": {"first": ["*.md"]}, "checks": {"first": "warn"}}
    return [{"id": f"g{i}", "needs": ["first"], "when": "always", "approval": terms} for i in range(many)]


def _deciding_gates(many: int) -> list[dict[str, Any]]:
    return [
        {
            "id": f"g{i}",
            "needs": ["first"],
            "when": "always",
            "approval": {"automatic": True, "checks": {"first": "block"}},
        }
        for i in range(many)
    ]


def _children(many: int) -> list[dict[str, Any]]:
    return [{"id": f"r{i}", "needs": ["first"], "run": {"plan": "./c.yaml"}} for i in range(many)]


def _items(many: int) -> list[dict[str, Any]]:
    return [each("all", list(range(many)), needs=("first",), run={"plan": "./c.yaml"})]


def _waits(many: int) -> list[dict[str, Any]]:
    return [{"id": f"w{i}", "needs": ["first"], "wait": {"event": "go"}} for i in range(many)]


def _asked(house: Runtime, steps: list[dict[str, Any]]) -> tuple[int, set[str]]:
    """How often the database is asked as the first step ends, and how the steps stand then that need it."""
    child = {"./c.yaml": loaded([noop_step("a")])}
    run_id = submitted(
        house.context, loaded([shell_step("first", "true", on_failure="ignore"), *steps, noop_step("open")], child)
    )
    claimed = take(house, run_id, "first")
    asked: list[str] = []
    engine = house.context.database.engine

    def note(*given: Any) -> None:
        asked.append(given[2])

    event.listen(engine, "before_cursor_execute", note)
    try:
        finish(house, claimed)
    finally:
        event.remove(engine, "before_cursor_execute", note)
    rows = step_rows(house.context, run_id)
    return len(asked), {row.state for key, row in rows.items() if key not in ("first", "open", "all")}


@pytest.mark.parametrize(
    ("steps", "state"),
    [
        (_gates, "held"),
        (_deciding_gates, "succeeded"),
        (_children, "held"),
        (_items, "held"),
        (_waits, "held"),
    ],
)
def test_ten_times_as_many_steps_that_wait_take_no_more_statements(house: Runtime, steps: Steps, state: str) -> None:
    few = _asked(house, steps(10))
    many = _asked(house, steps(100))

    assert many == (few[0], {state})
    assert few[0] < 60
