"""Child runs as a client sees them: what a list leaves out, what stands above and below, what a run waits for."""

from __future__ import annotations

from agentflow import AgentFlow, Plan
from agentflow.domain.ids import RunId, StepKey, step_id
from agentflow.engine.start_child import start_child
from agentflow.runtime import Runtime
from tests.factories import work_off


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
