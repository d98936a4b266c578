"""Child runs as a client sees them: what a list leaves out, what stands above and below, what a run waits for."""

from __future__ import annotations

import pytest

from agentflow import AgentFlow, Plan
from agentflow.domain.ids import RunId, StepKey, step_id
from agentflow.engine.claim import Claimed, claim
from agentflow.engine.start_child import start_child
from agentflow.runtime import Runtime
from agentflow.settings import Settings
from tests.factories import work_off
from tests.integration.engine.pruned import note_call
from tests.unit.cli.answers import ask, say


def started(house: Runtime, run_id: object, key: str) -> RunId:
    """Start the child run that a step waits for."""
    child = start_child(house.context, step_id(RunId(run_id), StepKey(key)), "tester@test")  # type: ignore[arg-type]
    assert child is not None
    return child


def family() -> Plan:
    """A plan whose one step runs a plan that waits for a person."""
    child = Plan("asking")
    child.noop("before")
    child.approval("ask", "May it go on?", needs=["before"])
    plan = Plan("above")
    plan.run("below", child)
    return plan


def test_a_list_leaves_child_runs_out_unless_they_are_asked_for(flow: AgentFlow, house: Runtime) -> None:
    above = flow.submit(family())
    below = str(started(house, above.uuid, "below"))

    assert [run.id for run in flow.runs()] == [above.id]
    assert [run.id for run in flow.runs(children=True)] == [below, above.id]
    assert [run.id for run in flow.runs(parent=above)] == [below]
    assert flow.get("@last").id == above.id


def test_a_run_names_what_is_above_and_what_is_below_it(flow: AgentFlow, house: Runtime) -> None:
    above = flow.submit(family())
    below = str(started(house, above.uuid, "below"))

    assert [run.id for run in above.refresh().children["below"]] == [below]
    parent = flow.get(below).parent
    assert parent is not None
    assert parent.id == above.id
    assert above.as_json()["children"] == [{"run": below, "step": "below"}]
    assert flow.get(below).as_json()["parent"] == {"run": above.id, "step": "below"}


def test_a_run_tells_what_it_used_by_itself_and_with_the_runs_below_it(
    flow: AgentFlow, house: Runtime, at_home: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    child, plan = Plan("child"), Plan("above")
    child.noop("a")
    plan.noop("a")
    plan.run("below", child, needs=[])
    above = flow.submit(plan, budget={"steps": 10, "tokens": 9000})
    assert above.tree_usage is None
    work_off(house, RunId(above.uuid))
    below = started(house, above.uuid, "below")
    work_off(house, below)
    for run_id in (RunId(above.uuid), below):
        note_call(house, run_id)

    used = above.refresh().tree_usage
    own = above.usage

    assert used is not None
    assert (own.attempts, used.attempts, used.child_runs) == (1, 2, 1)
    assert (own.calls, used.calls, used.tokens, used.usd) == (1, 2, 2 * own.tokens, 2 * own.usd)
    tokens = next(line.used for line in above.view.budget if line.budget == "tokens")
    assert tokens == used.tokens
    told = ask(capsys, "show", above.id)
    assert (told["usage"]["tokens"], told["tree_usage"]["tokens"]) == (own.tokens, used.tokens)
    page = say(capsys, "show", above.id)
    assert "in 1 call by itself" in page
    assert "in 2 calls, 2 attempts with 1 child run" in page
    assert "; child runs count" in page
    assert "; child runs count" in above.report()
    alone = say(capsys, "show", str(below))
    assert "in 1 call" in alone
    assert "by itself" not in alone
    assert "used in all" not in alone


def test_a_run_waits_where_all_that_its_child_run_does_is_wait(flow: AgentFlow, house: Runtime) -> None:
    above = flow.submit(family())
    below = started(house, above.uuid, "below")
    assert above.refresh().state == "running"

    work_off(house, below)

    assert (flow.get(below).state, above.refresh().state) == ("waiting", "waiting")
    assert above.reason is not None
    assert (above.reason["code"], above.reason["detail"]["run"]) == ("awaits_run", str(below))
    assert [run.id for run in flow.runs(state="waiting")] == [above.id]
    why = above.why()
    assert why.why.cause is not None
    assert str(below) in why.sentence
    assert "waits for a decision" in why.sentence


def test_a_paused_child_run_lets_the_run_above_wait(flow: AgentFlow, house: Runtime) -> None:
    above = flow.submit(family())
    below = flow.get(started(house, above.uuid, "below"))
    below.pause()
    assert above.refresh().state == "waiting"

    below.resume()

    assert above.refresh().state == "running"


def test_who_cancels_a_run_is_told_of_the_child_runs_that_end_with_it(
    flow: AgentFlow, house: Runtime, at_home: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    child, plan = Plan("child"), Plan("above")
    child.noop("a")
    plan.run("below", child)
    plan.run("beside", child, needs=[])
    above = flow.submit(plan)
    below = [started(house, above.uuid, key) for key in ("below", "beside")]
    claimed = claim(house.context, below[0], StepKey("a"), "test:0")
    assert isinstance(claimed, Claimed)

    told = say(capsys, "cancel", above.id)

    assert f"Run {above.id[:8]} is being cancelled: 2 child runs cancelled with it." in told
    assert f"agentflow wait {above.id[:8]}" in told
    assert [flow.get(each).state for each in below] == ["cancelling", "cancelled"]
    again = flow.submit(plan)
    assert ask(capsys, "cancel", again.id, "--json")["child_runs"] == 0
