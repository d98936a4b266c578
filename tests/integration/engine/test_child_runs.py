"""Child runs: a step that runs another plan, what goes down to it, and what its end makes of the step."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest
from sqlalchemy import text

from agentflow.domain.budget import Budget
from agentflow.domain.child_run import MAX_DEPTH
from agentflow.domain.error import InvalidTransition, PlanRejected
from agentflow.domain.ids import RunId, StepKey, step_id
from agentflow.domain.outcome import Succeeded
from agentflow.domain.state import RunState
from agentflow.engine.cancel import cancel, cancel_step
from agentflow.engine.claim import Claimed, claim
from agentflow.engine.context import EngineContext
from agentflow.engine.dispatcher import Dispatcher
from agentflow.engine.execute import Doorbell, execute
from agentflow.engine.finalize import finalize
from agentflow.engine.fork import ForkRequest, fork
from agentflow.engine.load_plan import LoadedPlan, load_data
from agentflow.engine.pause import pause
from agentflow.engine.prune import prune, survey
from agentflow.engine.raise_budget import raise_budget
from agentflow.engine.resume import resume
from agentflow.engine.retry import retry
from agentflow.engine.settle import Settlement, settle
from agentflow.engine.settle_child import settle_child
from agentflow.engine.start_child import start_child
from agentflow.engine.stored_plans import open_stored, push_plan
from agentflow.engine.submit import SubmitRequest, submit
from agentflow.engine.tend_children import STARTS, find_child_work
from agentflow.engine.verify import verify_all
from agentflow.executors.base import known_actions
from agentflow.runtime import Runtime
from tests.factories import (
    command_step,
    document,
    lines_of,
    noop_step,
    run_state,
    shell_step,
    step_rows,
    wait_for,
    wait_for_end,
    work_off,
)
from tests.integration.engine.conftest import Station
from tests.integration.engine.pruned import WEEK, age

T = TypeVar("T")

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


def state_row(context: EngineContext, run_id: RunId) -> Any:
    """How a run stands."""
    with context.database.transaction() as tx:
        return tx.execute(text("SELECT * FROM run_state WHERE run_id = :id"), {"id": run_id}).one()


def paused(house: Runtime, run_id: RunId) -> tuple[str, str] | None:
    """The scope and the actor of a run's pause."""
    found = state_row(house.context, run_id).paused
    return None if found is None else (found["scope"], found["actor"])


def exhausted(house: Runtime, run_id: RunId) -> list[dict[str, Any]]:
    """The budgets that a run rests over."""
    return state_row(house.context, run_id).exhausted or []


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


def test_a_child_run_is_cancelled_with_its_parent_and_the_parent_ends_last(station: Station, tmp_path: Path) -> None:
    context, mark = station.house.context, tmp_path / "started"
    leaf = loaded([shell_step("sleep", f"echo $$ > {mark}; sleep 300")])
    middle = loaded([run_step("deeper", "./leaf.yaml")], {"./leaf.yaml": leaf})
    run_id = submitted(context, loaded([run_step("down", "./middle.yaml")], {"./middle.yaml": middle}))
    [process] = wait_for(lambda: lines_of(mark))

    asked = cancel(context, run_id, "alice@test")

    assert (asked.is_new, asked.stopping, asked.child_runs) == (True, 0, 2)
    assert wait_for_end(context, run_id) is RunState.CANCELLED
    [below] = children_of(context, run_id)
    [deepest] = children_of(context, below)
    assert (run_state(context, below), run_state(context, deepest)) == (RunState.CANCELLED, RunState.CANCELLED)
    assert not Path(f"/proc/{process}").exists()
    with context.database.transaction() as tx:  # by what was written last: ended_at is when a transaction began
        last = text("SELECT max(id) FROM audit_event WHERE run_id = :id")
        ends = [tx.execute(last, {"id": each}).scalar_one() for each in (deepest, below, run_id)]
    assert ends == sorted(ends)
    assert state_row(context, deepest).reason == {"code": "cancelled", "detail": {"actor": "alice@test"}}


def test_a_step_that_is_cancelled_takes_its_child_run_along(house: Runtime) -> None:
    plan = loaded([run_step("below", "./c.yaml"), noop_step("other")], {"./c.yaml": loaded([noop_step("a")])})
    run_id = submitted(house.context, plan)
    below = started(house, run_id, "below")
    work_off(house, run_id)

    cancel_step(house.context, step_id(run_id, StepKey("below")), ACTOR)

    assert run_state(house.context, below) is RunState.CANCELLED
    assert run_state(house.context, run_id) is RunState.PARTIAL


def test_a_run_above_very_many_child_runs_is_cancelled_with_all_of_them(house: Runtime) -> None:
    many = 130
    child = loaded([{"id": "idle", "wait": {"event": "go"}}], name="idle")
    parent = loaded([{**run_step("each", "./idle.yaml"), "foreach": list(range(many))}], {"./idle.yaml": child})
    run_id = submitted(house.context, parent)
    for item in range(many):
        started(house, run_id, f"each[{item}]")

    cancel(house.context, run_id, ACTOR)

    assert run_state(house.context, run_id) is RunState.CANCELLED
    assert {run_state(house.context, each) for each in children_of(house.context, run_id)} == {RunState.CANCELLED}


def test_a_run_that_fails_cancels_its_open_child_runs_and_waits_for_them(house: Runtime) -> None:
    plan = loaded([run_step("below", "./c.yaml"), command_step("no", "false")], {"./c.yaml": loaded([noop_step("a")])})
    run_id = submitted(house.context, plan)
    below = started(house, run_id, "below")
    attempt = claim(house.context, below, StepKey("a"), "test:0")
    assert isinstance(attempt, Claimed)

    work_off(house, run_id)

    assert run_state(house.context, run_id) is RunState.FAILING
    assert run_state(house.context, below) is RunState.CANCELLING
    assert finalize(house.context, run_id, ACTOR) is None
    done = Settlement(below, attempt.step_id, attempt.plan, Succeeded(), "test:0")
    settle(house.context, done, attempt.claim_token)
    assert run_state(house.context, below) is RunState.CANCELLED
    assert run_state(house.context, run_id) is RunState.FAILED


def test_pauses_go_down_and_one_of_a_child_by_itself_stays(house: Runtime) -> None:
    child = loaded([noop_step("a")])
    plan = loaded([run_step("one", "./c.yaml"), run_step("two", "./c.yaml")], {"./c.yaml": child})
    run_id = submitted(house.context, plan)
    one, two = started(house, run_id, "one"), started(house, run_id, "two")
    pause(house.context, two, "bob@test")

    pause(house.context, run_id, "alice@test")

    assert (paused(house, one), paused(house, two)) == (("parent", "alice@test"), ("run", "bob@test"))
    with pytest.raises(InvalidTransition, match=f"agentflow resume {run_id}"):
        resume(house.context, one, ACTOR)
    resume(house.context, run_id, ACTOR)
    assert (paused(house, one), paused(house, two)) == (None, ("run", "bob@test"))
    resume(house.context, two, ACTOR)
    for each in (one, two):
        work_off(house, each)
    assert run_state(house.context, run_id) is RunState.COMPLETED


def test_a_run_rests_and_goes_on_although_postgres_breaks_off_what_is_below_it(house: Runtime) -> None:
    plan = loaded([run_step("below", "./c.yaml")], {"./c.yaml": loaded([noop_step("a")])})
    run_id = submitted(house.context, plan)
    below = started(house, run_id, "below")

    assert _broken_off_below(house, below, lambda: pause(house.context, run_id, ACTOR)).is_new
    assert (paused(house, run_id), paused(house, below)) == (("run", ACTOR), None)
    _sweep(house)
    assert paused(house, below) == ("parent", ACTOR)

    assert _broken_off_below(house, below, lambda: resume(house.context, run_id, ACTOR)).ready == ()
    assert (paused(house, run_id), paused(house, below)) == (None, ("parent", ACTOR))
    _sweep(house)
    assert paused(house, below) is None


def _broken_off_below(house: Runtime, below: RunId, verb: Callable[[], T]) -> T:
    """Return what a verb answers whose transaction for a child run Postgres breaks off while it waits for its lock."""
    waiting = text(
        "SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity "
        "WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )
    database = house.context.database
    with ThreadPoolExecutor(1) as pool, database.transaction() as tx, database.autocommit() as looking:
        tx.execute(text("SELECT FROM run_state WHERE run_id = :id FOR UPDATE"), {"id": below})
        asked = pool.submit(verb)
        wait_for(lambda: looking.execute(waiting).scalar_one())
        return asked.result(30)


def _sweep(house: Runtime) -> None:
    for _, tend in find_child_work(house.context, ACTOR, 100, is_sweep=True):
        tend()


def test_no_child_run_is_started_while_its_parent_rests(house: Runtime) -> None:
    plan = loaded([run_step("below", "./c.yaml")], {"./c.yaml": loaded([noop_step("a")])})
    run_id = submitted(house.context, plan)
    pause(house.context, run_id, ACTOR)

    assert start_child(house.context, step_id(run_id, StepKey("below")), ACTOR) is None
    assert children_of(house.context, run_id) == []

    resume(house.context, run_id, ACTOR)
    work_off(house, started(house, run_id, "below"))
    assert run_state(house.context, run_id) is RunState.COMPLETED


def test_what_a_crash_left_between_a_run_and_its_child_is_done_by_the_dispatcher(house: Runtime) -> None:
    child = loaded([noop_step("a")])
    plan = loaded([run_step(key, "./c.yaml") for key in ("told", "cut", "rests")], {"./c.yaml": child})
    run_id = submitted(house.context, plan)
    told, cut, rests = (started(house, run_id, key) for key in ("told", "cut", "rests"))
    with house.context.database.transaction() as tx:
        tx.execute(text("UPDATE run_state SET state = 'completed', ended_at = now() WHERE run_id = :id"), {"id": told})
        tx.execute(text("UPDATE step SET state = 'cancelled' WHERE id = :id"), {"id": step_id(run_id, StepKey("cut"))})
        tx.execute(
            text("UPDATE run_state SET rests_since = now(), paused = CAST(:paused AS jsonb) WHERE run_id = :id"),
            {"id": rests, "paused": '{"actor": "a", "why": null, "at": "2026-01-01T00:00:00Z", "is_hard": false, '
             '"scope": "parent"}'},
        )  # fmt: skip

    for _, tend in find_child_work(house.context, ACTOR, 100, is_sweep=True):
        tend()

    assert step_rows(house.context, run_id)["told"].state == "succeeded"
    assert run_state(house.context, cut) is RunState.CANCELLED
    assert paused(house, rests) is None


def test_two_child_runs_exhaust_what_their_parent_may_spend(station: Station) -> None:
    context = station.house.context
    child = loaded([noop_step("a"), noop_step("b", ["a"])])
    plan = loaded([run_step("one", "./c.yaml"), run_step("two", "./c.yaml")], {"./c.yaml": child}, budget={"steps": 3})
    run_id = submitted(context, plan)

    resting = wait_for(lambda: [each for each in children_of(context, run_id) if exhausted(station.house, each)])

    [short] = exhausted(station.house, resting[0])
    assert (short["budget"], short["scope"], short["used"]) == ("steps", f"run:{run_id}", 3)
    with pytest.raises(InvalidTransition, match=f"agentflow budget raise {run_id} --steps"):
        resume(context, resting[0], ACTOR)
    raise_budget(context, run_id, Budget(steps=1), ACTOR)
    resume(context, run_id, ACTOR)
    assert wait_for_end(context, run_id) is RunState.COMPLETED


def test_the_time_of_the_run_above_bounds_its_child_runs(house: Runtime) -> None:
    plan = loaded(
        [run_step("below", "./c.yaml")], {"./c.yaml": loaded([noop_step("a")])}, budget={"active_time": "10s"}
    )
    run_id = submitted(house.context, plan)
    below = started(house, run_id, "below")
    with house.context.database.transaction() as tx:
        tx.execute(
            text("UPDATE run_state SET started_at = now() - interval '1 minute' WHERE run_id = :id"), {"id": run_id}
        )

    execute(house.context, house.lease_keeper, Doorbell(below, StepKey("a")), "test:0")

    assert [(each["budget"], each["scope"]) for each in exhausted(house, below)] == [("active_time", f"run:{run_id}")]


def test_a_retry_takes_the_child_run_up_again_that_failed(house: Runtime, tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    child = loaded([noop_step("done"), shell_step("once", f"test -e {mark}", needs=["done"], retry=1)])
    run_id = submitted(house.context, loaded([run_step("below", "./c.yaml")], {"./c.yaml": child}))
    below = started(house, run_id, "below")
    work_off(house, below)
    assert run_state(house.context, run_id) is RunState.FAILED
    with pytest.raises(InvalidTransition, match=f"agentflow retry {run_id} --step below"):
        retry(house.context, below, ACTOR)

    mark.touch()
    retry(house.context, run_id, ACTOR)
    assert started(house, run_id, "below") == below
    work_off(house, below)

    assert run_state(house.context, run_id) is RunState.COMPLETED
    assert children_of(house.context, run_id) == [below]
    rows = step_rows(house.context, below)
    assert (rows["done"].attempts, rows["once"].attempts) == (1, 2)


def test_a_name_means_the_version_that_it_meant_at_the_submit(house: Runtime) -> None:
    push_plan(house.context, loaded([noop_step("old")], name="shared"), "default", ACTOR)
    run_id = submitted(house.context, loaded([run_step("below", "shared")]))
    push_plan(house.context, loaded([noop_step("new")], name="shared"), "default", ACTOR)

    below = started(house, run_id, "below")

    assert list(step_rows(house.context, below)) == ["old"]


def test_a_name_that_no_plan_has_and_vars_that_do_not_fit_are_faults_of_the_submit(house: Runtime) -> None:
    push_plan(
        house.context, loaded([noop_step("a")], name="shared", vars={"who": {"required": True}}), "default", ACTOR
    )
    plan = loaded([run_step("none", "sharde"), run_step("misfit", "shared", vars={"whom": 1})])

    with pytest.raises(PlanRejected) as rejected:
        submitted(house.context, plan)

    assert [(fault.code, fault.path) for fault in rejected.value.faults] == [
        ("unknown_plan", ("steps", 0, "run", "plan")),
        ("unknown_var", ("steps", 1, "run", "vars", "whom")),
        ("missing_var", ("steps", 1, "run")),
    ]


def test_a_plan_that_runs_itself_by_name_ends_at_the_bound(house: Runtime) -> None:
    push_plan(house.context, loaded([noop_step("a")], name="deep"), "default", ACTOR)
    push_plan(house.context, loaded([run_step("again", "deep")], name="deep"), "default", ACTOR)
    run_id = first = submitted(house.context, loaded([run_step("again", "deep")]))

    for _ in range(MAX_DEPTH):
        run_id = started(house, run_id, "again")
    assert start_child(house.context, step_id(run_id, StepKey("again")), ACTOR) is None

    reason = step_rows(house.context, run_id)["again"].reason
    assert (reason["code"], "8 deep" in reason["detail"]["problem"]) == ("refused", True)
    assert run_state(house.context, first) is RunState.FAILED


def test_a_value_that_its_plan_cannot_take_fails_the_step_without_being_told(house: Runtime) -> None:
    child = loaded([noop_step("a")], vars={"n": 1})
    steps = [
        command_step("first", "echo", '"sentinel"', outputs="stdout_json"),
        run_step("below", "./c.yaml", ["first"], vars={"n": "{{ steps.first.result }}"}),
    ]
    run_id = submitted(house.context, loaded(steps, {"./c.yaml": child}))
    work_off(house, run_id)

    assert start_child(house.context, step_id(run_id, StepKey("below")), ACTOR) is None

    reason = step_rows(house.context, run_id)["below"].reason
    assert reason["code"] == "refused"
    assert "n (bad_var)" in reason["detail"]["problem"]
    assert "sentinel" not in str(reason)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ('{{ "sentinel\\ud800" }}', "its var n holds half a surrogate pair"),
        ('{{ {"sentinel\\ud800": 1} }}', "its var n holds half a surrogate pair"),
        ('{{ {"sentinel\\0": 1} }}', "its var n holds a NUL"),
        ("{{ 1e308 * 10 }}", "its var n holds itself, NaN, or a number that is too large"),
    ],
)
def test_a_value_that_no_row_takes_fails_the_step_and_nothing_is_tried_again(
    house: Runtime, value: str, problem: str
) -> None:
    child = loaded([noop_step("a")], vars={"n": {"required": True}})
    run_id = submitted(house.context, loaded([run_step("below", "./c.yaml", vars={"n": value})], {"./c.yaml": child}))

    Dispatcher(house.context, "test").one_pass()

    row = step_rows(house.context, run_id)["below"]
    assert (row.state, row.reason["code"]) == ("failed", "refused")
    assert row.reason["detail"]["problem"].startswith(problem)
    assert "sentinel" not in str(row.reason)


def test_a_tree_of_runs_is_pruned_as_one_and_verifies(house: Runtime) -> None:
    leaf = loaded([noop_step("a")])
    middle = loaded([run_step("deeper", "./leaf.yaml")], {"./leaf.yaml": leaf})
    run_id = submitted(house.context, loaded([run_step("down", "./middle.yaml")], {"./middle.yaml": middle}))
    below = started(house, run_id, "down")
    deepest = started(house, below, "deeper")
    work_off(house, deepest)
    tree = [run_id, below, deepest]
    assert [run_state(house.context, each) for each in tree] == [RunState.COMPLETED] * 3
    assert not [found for found in verify_all(house.context) if not found.is_intact]
    for each in (below, deepest):
        age(house, each, 30)
    assert (survey(house.context, WEEK).runs, prune(house.context, WEEK, ACTOR).tombstones) == (0, ())

    age(house, run_id, 30)

    assert survey(house.context, WEEK).runs == 3
    assert {each.run_id for each in prune(house.context, WEEK, ACTOR).tombstones} == set(tree)


def test_a_fork_takes_a_finished_child_run_over_or_runs_a_new_one(house: Runtime) -> None:
    child = loaded([noop_step("a")])
    plan = loaded([run_step("below", "./c.yaml"), noop_step("after", ["below"])], {"./c.yaml": child})
    run_id = submitted(house.context, plan)
    below = started(house, run_id, "below")
    work_off(house, below)
    work_off(house, run_id)

    kept = fork(house.context, run_id, ForkRequest(StepKey("after"), ACTOR)).run_id
    anew = fork(house.context, run_id, ForkRequest(StepKey("below"), ACTOR)).run_id

    assert work_off(house, kept) is RunState.COMPLETED
    assert (children_of(house.context, kept), step_rows(house.context, kept)["below"].result["run"]) == ([], str(below))
    new = started(house, anew, "below")
    assert new != below
    work_off(house, new)
    assert work_off(house, anew) is RunState.COMPLETED


def test_a_pushed_plan_brings_the_plans_of_its_child_runs_along(house: Runtime, tmp_path: Path) -> None:
    (tmp_path / "greeting.txt").write_text("hello")
    child = document([command_step("say", "cat", "greeting.txt")], files=["greeting.txt"])
    greeting = load_data(child, tmp_path, available_actions=known_actions())
    plan = loaded([run_step("below", "./greet.yaml")], {"./greet.yaml": greeting}, name="greeter")
    push_plan(house.context, plan, "default", ACTOR)
    (tmp_path / "greeting.txt").unlink()

    run_id = submitted(house.context, open_stored(house.context, "default", "greeter").loaded)

    work_off(house, started(house, run_id, "below"))
    assert run_state(house.context, run_id) is RunState.COMPLETED


def test_of_many_that_start_a_child_run_at_once_one_does(house: Runtime, tmp_path: Path) -> None:
    (tmp_path / "greeting.txt").write_text("hello")
    child = document([command_step("say", "cat", "greeting.txt", stdin="in")], files=["greeting.txt"])
    greeting = load_data(child, tmp_path, available_actions=known_actions())
    run_id = submitted(house.context, loaded([run_step("below", "./greet.yaml")], {"./greet.yaml": greeting}))
    barrier = threading.Barrier(4)

    def start() -> RunId | None:
        barrier.wait()
        return start_child(house.context, step_id(run_id, StepKey("below")), ACTOR)

    with ThreadPoolExecutor(4) as pool:
        found = {future.result() for future in [pool.submit(start) for _ in range(4)]}

    [below] = children_of(house.context, run_id)
    assert found <= {below, None}
    work_off(house, below)
    assert run_state(house.context, run_id) is RunState.COMPLETED


def test_a_child_run_in_which_nothing_can_be_taken_up_is_made_anew(house: Runtime) -> None:
    plan = loaded([run_step("below", "./c.yaml")], {"./c.yaml": loaded([noop_step("a")])})
    run_id = submitted(house.context, plan)
    below = started(house, run_id, "below")
    with house.context.database.transaction() as tx:  # ended, and nothing of it failed
        tx.execute(
            text("UPDATE step SET state = 'skipped', sent_at = NULL, not_before = NULL WHERE run_id = :id"),
            {"id": below},
        )
        tx.execute(text("UPDATE run_state SET state = 'failed', ended_at = now() WHERE run_id = :id"), {"id": below})
    settle_child(house.context, below, ACTOR)
    retry(house.context, run_id, ACTOR)

    assert start_child(house.context, step_id(run_id, StepKey("below")), ACTOR) is None  # it finds nothing to take up
    new = started(house, run_id, "below")

    assert children_of(house.context, run_id) == [below, new]


def folder_of(house: Runtime, run_id: object) -> Path:
    """Where the content of a run lies."""
    return house.settings.content_dir / "runs" / str(run_id)


def awaited(house: Runtime, run_id: RunId) -> list[str]:
    """The ids of the child runs that the steps of a run wait for."""
    return [row.reason["detail"]["run"] for row in step_rows(house.context, run_id).values() if row.action == "run"]


def has_wakeup(house: Runtime) -> bool:
    """Whether the dispatcher was woken; takes the wake-up."""
    return house.context.side_channel.wait_for_wakeup(0.01)


def make_due(house: Runtime, run_id: RunId) -> None:
    """Let the time have come at which the child runs of a run are tried again, before that of any other."""
    with house.context.database.transaction() as tx:
        tx.execute(
            text("UPDATE step SET not_before = now() - interval '1 h' WHERE run_id = :id AND state = 'held'"),
            {"id": run_id},
        )


def test_starts_that_fail_for_now_hold_up_no_others_and_are_tried_again(house: Runtime) -> None:
    child = loaded([command_step("say", "cat", stdin="hello")])
    stuck = submitted(
        house.context, loaded([run_step(f"s{i}", "./c.yaml") for i in range(STARTS)], {"./c.yaml": child})
    )
    for each in awaited(house, stuck):  # no content can be kept for these
        folder_of(house, each).write_text("no folder")
    dispatcher = Dispatcher(house.context, "test")
    make_due(house, stuck)
    has_wakeup(house)

    dispatcher.one_pass()

    assert not has_wakeup(house)  # nothing came of it, and there are no others
    behind = submitted(house.context, loaded([run_step("below", "./c.yaml")], {"./c.yaml": child}))
    make_due(house, stuck)
    has_wakeup(house)
    dispatcher.one_pass()
    assert children_of(house.context, behind) == []
    assert has_wakeup(house)
    dispatcher.one_pass()
    assert [str(each) for each in children_of(house.context, behind)] == awaited(house, behind)
    assert children_of(house.context, stuck) == []

    for each in awaited(house, stuck):
        folder_of(house, each).unlink(missing_ok=True)
    make_due(house, stuck)
    dispatcher.one_pass()
    assert {str(each) for each in children_of(house.context, stuck)} == set(awaited(house, stuck))


def test_a_child_run_that_is_not_made_leaves_no_content(house: Runtime) -> None:
    child = loaded([command_step("say", "cat", stdin="hello")])
    run_id = submitted(house.context, loaded([run_step("below", "./c.yaml")], {"./c.yaml": child}))
    [below] = awaited(house, run_id)
    pause(house.context, run_id, ACTOR)

    assert start_child(house.context, step_id(run_id, StepKey("below")), ACTOR) is None

    assert not folder_of(house, below).exists()
    resume(house.context, run_id, ACTOR)
    assert str(started(house, run_id, "below")) == below
    assert any(folder_of(house, below).rglob("*"))
