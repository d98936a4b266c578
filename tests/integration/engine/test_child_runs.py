"""Child runs: a step that runs another plan, what goes down to it, and what its end makes of the step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from agentflow.domain.ids import RunId, StepKey, step_id
from agentflow.domain.state import RunState
from agentflow.engine.context import EngineContext
from agentflow.engine.load_plan import LoadedPlan, load_data
from agentflow.engine.settle_child import settle_child
from agentflow.engine.start_child import start_child
from agentflow.engine.submit import SubmitRequest, submit
from agentflow.executors.base import known_actions
from agentflow.runtime import Runtime
from tests.factories import (
    command_step,
    document,
    noop_step,
    run_state,
    step_rows,
    wait_for_end,
    work_off,
)
from tests.integration.engine.conftest import Station

ACTOR = "tester@test"


def run_step(key: str, plan: str, needs: list[str] | None = None, /, **fields: Any) -> dict[str, Any]:
    """A step that runs another plan."""
    inside = {name: fields.pop(name) for name in ("vars", "budget") if name in fields}
    return {"id": key, "needs": needs or [], "run": {"plan": plan, **inside}, **fields}


def loaded(steps: list[dict[str, Any]], children: dict[str, LoadedPlan] | None = None, **fields: Any) -> LoadedPlan:
    """A plan of these steps, with the plans of its child runs by what the steps write for them."""
    return load_data(document(steps, **fields), Path(), available_actions=known_actions(), children=children or {})


def submitted(context: EngineContext, plan: LoadedPlan) -> RunId:
    """Submit a loaded plan."""
    request = SubmitRequest(
        plan=plan.plan, vars={}, project="default", actor=ACTOR, content=plan.content, files=plan.files,
        brought=plan.brought,
    )  # fmt: skip
    return submit(context, request).run_id


def children_of(context: EngineContext, run_id: RunId) -> list[RunId]:
    """The child runs of a run, the oldest first."""
    with context.database.transaction() as tx:
        rows = tx.execute(text("SELECT id FROM run WHERE parent_run = :id ORDER BY created_at, id"), {"id": run_id})
        return [RunId(row) for row in rows.scalars()]


def started(house: Runtime, run_id: RunId, key: str) -> RunId:
    """Start the child run that a step waits for."""
    child = start_child(house.context, step_id(run_id, StepKey(key)), ACTOR)
    assert child is not None
    return child


def test_a_step_runs_a_plan_with_what_that_brings_along(station: Station, tmp_path: Path) -> None:
    (tmp_path / "greeting.txt").write_text("hello")
    child = document(
        [
            command_step(
                "say", "sh", "-c", 'test "$(cat)" = "stdin ana" && cat greeting.txt', stdin="stdin {{ vars.who }}"
            )
        ],
        vars={"who": {"required": True}, "times": 1},
        files=["greeting.txt"],
    )
    greeting = load_data(child, tmp_path, available_actions=known_actions())
    plan = loaded(
        [
            command_step("first", "echo", '{"who": "ana", "times": 3}', outputs="stdout_json"),
            run_step("below", "./greet.yaml", ["first"],
                     vars={"who": "{{ steps.first.result.who }}", "times": "{{ steps.first.result.times }}"}),
            command_step("last", "test", "{{ steps.below.result.state }}", "=", "completed", needs=["below"]),
        ],
        {"./greet.yaml": greeting},
    )  # fmt: skip

    run_id = submitted(station.house.context, plan)

    assert wait_for_end(station.house.context, run_id) is RunState.COMPLETED
    [below] = children_of(station.house.context, run_id)
    row = step_rows(station.house.context, run_id)["below"]
    assert (row.attempts, row.result) == (0, {"run": str(below), "state": "completed"})
    with station.house.context.database.transaction() as tx:
        found = tx.execute(text("SELECT * FROM run WHERE id = :id"), {"id": below}).one()
    assert found.vars == {"who": "ana", "times": 3}
    assert (found.parent_run, found.parent_step, found.ancestors) == (run_id, "below", [str(run_id)])


def test_child_runs_nest_and_stand_inside_of_a_foreach(station: Station) -> None:
    leaf = loaded([command_step("check", "test", "{{ vars.n }}", "-ge", "1")], vars={"n": {"required": True}})
    middle = loaded(
        [{"id": "each", "foreach": [1, 2, 3], "run": {"plan": "./leaf.yaml", "vars": {"n": "{{ item }}"}}}],
        {"./leaf.yaml": leaf},
    )
    top = loaded([run_step("down", "./middle.yaml"), noop_step("after", ["down"])], {"./middle.yaml": middle})

    run_id = submitted(station.house.context, top)

    assert wait_for_end(station.house.context, run_id) is RunState.COMPLETED
    [below] = children_of(station.house.context, run_id)
    assert len(children_of(station.house.context, below)) == 3
    with station.house.context.database.transaction() as tx:
        above = tx.execute(text("SELECT DISTINCT ancestors FROM run WHERE parent_run = :id"), {"id": below}).scalars()
        assert list(above) == [[str(run_id), str(below)]]


@pytest.mark.parametrize(
    ("on_failure", "end"), [("stop", RunState.FAILED), ("continue", RunState.PARTIAL), ("ignore", RunState.COMPLETED)]
)
def test_a_child_that_fails_fails_its_step(house: Runtime, on_failure: str, end: RunState) -> None:
    child = loaded([command_step("no", "false")])
    plan = loaded([run_step("below", "./c.yaml", on_failure=on_failure), noop_step("other")], {"./c.yaml": child})
    run_id = submitted(house.context, plan)
    below = started(house, run_id, "below")

    work_off(house, below)
    work_off(house, run_id)

    assert run_state(house.context, below) is RunState.FAILED
    row = step_rows(house.context, run_id)["below"]
    assert row.state == "failed"
    assert row.reason == {"code": "child_ended", "detail": {"run": str(below), "state": "failed"}}
    assert run_state(house.context, run_id) is end


def test_a_child_is_made_once_whoever_dies_on_the_way(house: Runtime) -> None:
    plan = loaded([run_step("below", "./c.yaml")], {"./c.yaml": loaded([noop_step("a")])})
    run_id = submitted(house.context, plan)
    waiting = step_rows(house.context, run_id)["below"].reason["detail"]["run"]

    first = started(house, run_id, "below")
    with house.context.database.transaction() as tx:  # as if it had died before it noted the start
        tx.execute(text("UPDATE step SET not_before = now() WHERE run_id = :id"), {"id": run_id})
    second = started(house, run_id, "below")

    assert str(first) == str(second) == waiting
    assert children_of(house.context, run_id) == [first]


def test_an_end_that_is_told_twice_counts_once(house: Runtime) -> None:
    plan = loaded([run_step("below", "./c.yaml")], {"./c.yaml": loaded([noop_step("a")])})
    run_id = submitted(house.context, plan)
    below = started(house, run_id, "below")
    assert settle_child(house.context, below, ACTOR) is None  # it has not ended

    work_off(house, below)

    assert settle_child(house.context, below, ACTOR) is None
    assert run_state(house.context, run_id) is RunState.COMPLETED
