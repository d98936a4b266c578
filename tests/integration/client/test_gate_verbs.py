"""`gates`, `approve` and `reject` by the command line and the client: what is asked, of whom, how it is answered."""

from __future__ import annotations

import pytest

from agentflow import AgentFlow, Plan, Run, errors
from agentflow.domain.ids import RunId, StepKey, step_id
from agentflow.engine.start_child import start_child
from agentflow.runtime import Runtime
from agentflow.settings import Settings
from tests.factories import work_off
from tests.integration.client.conftest import Finish
from tests.unit.cli.answers import ask, complain, say


@pytest.fixture(autouse=True)
def _home(at_home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line works on the test's installation, as somebody else than who submits."""
    monkeypatch.setenv("AGENTFLOW_ACTOR", "alice")


def asking(flow: AgentFlow, finish: Finish) -> Run:
    """A run that waits at a gate with everything on it."""
    plan = Plan("release", vars={"app": "shop"})
    build = plan.noop("build")
    gate = plan.approval(
        "ship",
        "Release {{ vars.app }}?",
        needs=[build],
        approvers=["alice", "bob", "@ops"],
        count=2,
        form={"region": {"one_of": ["eu", "us"]}},
        expires="24h",
    )
    plan.noop("deploy", needs=[gate])
    return finish(flow.submit(plan))


def test_a_gate_is_listed_shown_explained_and_decided(
    flow: AgentFlow, finish: Finish, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = asking(flow, finish)
    short = run.id[:8]

    listed = ask(capsys, "gates", "--mine", "--json")["gates"]
    assert [(gate["step"], gate["message"], gate["missing"]) for gate in listed] == [("ship", "Release shop?", 2)]
    for words in (
        "Release shop?",
        "0 of 2 given",
        "alice, bob, @ops may approve",
        "then: deny",
        "region: string, one of eu, us",
    ):
        assert words in say(capsys, "gates", short), words
    assert f"agentflow approve {short} ship --set region=..." in say(capsys, "show", short)
    monkeypatch.setenv("AGENTFLOW_ACTOR", "tester@test")
    own = say(capsys, "show", short)
    assert f"agentflow gates {short}  " in own
    assert f"agentflow reject {short} ship" in own
    assert "agentflow approve" not in own
    monkeypatch.setenv("AGENTFLOW_ACTOR", "alice")
    assert ask(capsys, "show", short, "--json")["gates"] == ask(capsys, "gates", short, "--json")["gates"]
    why = ask(capsys, "why", short, "ship", "--json")["reason"]
    assert why["detail"]["gate"]["missing"] == 2
    assert "; alice, bob may give the 2 missing (@ops: no members here)" in why["sentence"]
    assert f"`agentflow approve {run.id} ship --set region=...` by one of them" in why["advice"]

    decided = ask(capsys, "approve", short, "--set", "region=eu", "--why", "looks good", "--json")["decided"]
    assert (decided["gate"], decided["approved_by"], decided["ready"]) == ("open", ["alice"], [])
    assert ask(capsys, "gates", "--mine", "--json")["gates"] == []
    assert "had your approval before" in say(capsys, "approve", short)
    monkeypatch.setenv("AGENTFLOW_ACTOR", "bob")
    assert f"Gate ship of run {short} is approved by alice, bob; deploy goes on." in say(capsys, "approve", short)
    assert say(capsys, "gates") == "No gate waits for a decision.\n"
    said = finish(run).view.gates[0].gate.decisions
    assert [(each.actor, each.why) for each in said] == [("alice", "looks good"), ("bob", None)]
    assert run.state == "completed"


def test_what_cannot_be_decided_is_refused_with_its_exit_code(
    flow: AgentFlow, finish: Finish, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = asking(flow, finish)

    assert "region is none of its choices" in complain(capsys, "approve", run.id, "--set", "region=mars", code=2)
    assert "--set takes NAME=VALUE" in complain(capsys, "approve", run.id, "--set", "region", code=2)
    monkeypatch.setenv("AGENTFLOW_ACTOR", "mallory")
    assert "mallory may not decide it" in complain(capsys, "approve", run.id, code=1)
    monkeypatch.setenv("AGENTFLOW_ACTOR", "bob")
    assert "is rejected" in say(capsys, "reject", run.id, "--why", "not on a Friday")
    late = ask(capsys, "approve", run.id, "ship", "--json", schema="error", code=1)["error"]
    assert (late["code"], late["details"]["decided_by"]) == ("already_decided", "bob")
    told = say(capsys, "retry", run.id)
    assert f"Run {run.id[:8]} goes on: the gate ship asks again; 1 step waits for that." in told


def test_the_client_decides_as_its_actor(flow: AgentFlow, finish: Finish, at_home: Settings) -> None:
    run = asking(flow, finish)

    with pytest.raises(errors.NotAllowed):
        run.approve(form={"region": "eu"})
    with AgentFlow(at_home.model_copy(update={"actor": "alice"})) as alice:
        assert [view.step for view in alice.gates(mine=True)] == ["ship"]
        assert alice.get(run.id).approve("ship", form={"region": "eu"}, why="fine").state == "open"
    assert run.reject(why="my own run").state == "rejected"
    assert [view.gate.state for view in flow.gate_history(run)] == ["rejected"]
    assert flow.gates(run) == []


def test_the_gates_of_child_runs_are_found_from_the_run_above(
    flow: AgentFlow, house: Runtime, capsys: pytest.CaptureFixture[str]
) -> None:
    child, plan = Plan("asking"), Plan("above")
    child.approval("ask", "May it go on?")
    plan.run("below", child)
    above = flow.submit(plan)
    below = start_child(house.context, step_id(RunId(above.uuid), StepKey("below")), "tester@test")
    assert below is not None

    assert [(gate["run"], gate["step"]) for gate in ask(capsys, "gates", above.id, "--json")["gates"]] == [
        (str(below), "ask")
    ]
    assert [view.run_id for view in above.gates()] == [below]
    shown = say(capsys, "show", above.id)
    assert f"agentflow approve {str(below)[:8]} ask" in shown
    assert "May it go on?" in shown
    assert ask(capsys, "show", above.id, "--json")["gates"][0]["run"] == str(below)
    for wrong in ([], ["below"], ["ask"]):
        told = complain(capsys, "approve", above.id, *wrong, code=2)
        assert f"gates of its child runs wait: `agentflow approve {below} ask`" in told, wrong
    told = complain(capsys, "reject", above.id, "--why", "no", code=2)
    assert f"`agentflow reject {below} ask --why ...`" in told

    say(capsys, "approve", str(below))
    assert say(capsys, "gates", above.id) == "No gate waits for a decision.\n"
    assert "has no gate that waits for a decision\n" in complain(capsys, "approve", above.id, code=2)
    work_off(house, below)
