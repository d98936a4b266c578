"""Modes: a strict run starts nothing before a person's yes, a dry run only tells, and a hash takes one plan only."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from agentflow import AgentFlow, Plan, Run, errors
from agentflow.cli.main import main
from agentflow.domain.ids import RunId, StepKey, step_id
from agentflow.domain.mode import APPROVE_EXECUTION
from agentflow.engine.start_child import start_child
from agentflow.runtime import Runtime
from agentflow.settings import Settings
from tests.factories import step_rows, wait_for
from tests.integration.client.conftest import Finish
from tests.integration.client.terminal import TypedTerminal
from tests.unit.cli.answers import ask, complain, say

PLAN = """
agentflow: 1
name: careful
steps:
  - {id: first, noop: {}}
  - {id: second, noop: {}}
"""


@pytest.fixture
def strict(at_home: Settings, plan: Path) -> Iterator[TypedTerminal]:
    """A strict run that is asked for at a terminal."""
    with TypedTerminal(at_home, "run", plan, "--mode", "strict") as terminal:
        wait_for(lambda: "[y/N]" in terminal.text)
        yield terminal


@pytest.fixture(autouse=True)
def _home(at_home: Settings) -> None:
    """The command line works on the test's installation."""


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "careful.yaml"
    path.write_text(PLAN, encoding="utf-8")
    return path


def _somebody_else(settings: Settings) -> AgentFlow:
    return AgentFlow(settings.model_copy(update={"actor": "ben@test"}))


def _states(house: Runtime, run: Run) -> dict[str, str]:
    return {key: row.state for key, row in step_rows(house.context, RunId(run.uuid)).items()}


def test_a_strict_run_starts_nothing_before_somebody_else_approves_it(
    flow: AgentFlow, house: Runtime, finish: Finish, plan: Path
) -> None:
    run = flow.submit(plan, mode="strict")

    assert _states(house, run) == {APPROVE_EXECUTION: "held", "first": "pending", "second": "pending"}
    with pytest.raises(errors.NotAllowed, match="somebody else"):
        flow.approve(run)
    with pytest.raises(errors.InvalidTransition, match="behind the gate"):
        flow.override(run, "first", skip=True, why="no gate is passed")
    with _somebody_else(flow.settings) as other:
        assert other.approve(run).ready == ("first",)
    assert finish(run).state == "completed"
    event = next(iter(run.events()))
    assert event.facts["mode"] == "strict"
    assert event.facts["ungated_plan"] == Plan.load(plan).plan.fingerprint != event.facts["plan"]
    with house.context.database.transaction() as tx:
        assert tx.execute(text("SELECT mode FROM run WHERE id = :id"), {"id": run.uuid}).scalar_one() == "strict"


def test_a_rejected_strict_run_ends_with_nothing_started(flow: AgentFlow, house: Runtime, plan: Path) -> None:
    run = flow.submit(plan, mode="strict")

    flow.reject(run, why="not today")

    assert run.refresh().state == "failed"
    assert _states(house, run) == {APPROVE_EXECUTION: "failed", "first": "skipped", "second": "skipped"}
    assert run.usage.attempts == 0


def _mode(house: Runtime, run: Run) -> str:
    with house.context.database.transaction() as tx:
        return str(tx.execute(text("SELECT mode FROM run WHERE id = :id"), {"id": run.uuid}).scalar_one())


def test_a_fork_of_a_strict_run_asks_too_whatever_was_edited(
    flow: AgentFlow, house: Runtime, finish: Finish, plan: Path
) -> None:
    run = flow.submit(plan, mode="strict")
    with _somebody_else(flow.settings) as other:
        other.approve(run)
    assert finish(run).state == "completed"
    plan.write_text(PLAN.replace("second, noop: {}", "second, noop: {}, timeout: 5s"), encoding="utf-8")

    for forked in (flow.fork(run, "second"), flow.fork(run, "second", plan=plan)):
        assert (forked.reused, _mode(house, forked)) == ((), "strict")
        assert _states(house, forked) == {APPROVE_EXECUTION: "held", "first": "pending", "second": "pending"}
        assert next(iter(forked.events())).facts["mode"] == "strict"
        with pytest.raises(errors.NotAllowed, match="somebody else"):
            flow.approve(forked)
    with _somebody_else(flow.settings) as other:
        other.approve(forked)
    assert finish(forked).state == "completed"
    assert _mode(house, flow.fork(flow.submit(plan), "second", plan=plan)) == "auto"


def test_a_fork_says_why_it_took_nothing_over(flow: AgentFlow, capsys: pytest.CaptureFixture[str], plan: Path) -> None:
    run = flow.submit(plan, mode="strict")

    assert main(["fork", run.id, "--from", "second", "--detach"]) == 0

    assert "the run is strict" in capsys.readouterr().err


def test_an_edited_plan_of_a_strict_run_keeps_a_place_for_the_gate(flow: AgentFlow, plan: Path) -> None:
    run = flow.submit(plan, mode="strict", allows_self=True)
    assert flow.approve(flow.fork(run, "first", plan=plan)).ready == ("first",)
    plan.write_text(PLAN.replace("second", APPROVE_EXECUTION), encoding="utf-8")

    with pytest.raises(errors.PlanRejected) as refused:
        flow.fork(run, "first", plan=plan)

    [fault] = refused.value.faults
    assert (fault.code, fault.line) == ("reserved_id", 6)


def test_a_fork_of_a_child_of_a_strict_run_asks(flow: AgentFlow, house: Runtime, plan: Path, tmp_path: Path) -> None:
    above = tmp_path / "above.yaml"
    above.write_text("{agentflow: 1, name: above, steps: [{id: below, run: {plan: careful.yaml}}]}", encoding="utf-8")
    run = flow.submit(above, mode="strict", allows_self=True)
    flow.approve(run)
    child = start_child(house.context, step_id(RunId(run.uuid), StepKey("below")), "dispatcher:test")
    assert child is not None
    assert APPROVE_EXECUTION not in flow.get(str(child)).steps

    forked = flow.fork(str(child), "first")

    assert _states(house, forked) == {APPROVE_EXECUTION: "held", "first": "pending", "second": "pending"}


@pytest.mark.parametrize("end", ["reject", "cancel"])
def test_a_retry_of_a_strict_run_nobody_said_yes_to_asks_again(
    flow: AgentFlow, house: Runtime, plan: Path, end: str
) -> None:
    run = flow.submit(plan, mode="strict")
    flow.reject(run, why="not yet") if end == "reject" else flow.cancel(run)

    with pytest.raises(errors.InvalidTransition):
        flow.retry(run, step="first")
    flow.retry(run)

    assert _states(house, run) == {APPROVE_EXECUTION: "held", "first": "pending", "second": "pending"}


def test_the_settings_say_how_runs_are_submitted_that_do_not_say_it(
    flow: AgentFlow, house: Runtime, plan: Path
) -> None:
    with AgentFlow(flow.settings.model_copy(update={"mode": "strict"})) as careful:
        assert APPROVE_EXECUTION in careful.submit(plan).steps
        assert APPROVE_EXECUTION not in careful.submit(plan, mode="auto").steps


def test_a_key_stands_for_one_mode(flow: AgentFlow, plan: Path) -> None:
    run = flow.submit(plan, mode="strict", idempotency_key="once")

    assert flow.submit(plan, mode="strict", idempotency_key="once").id == run.id
    with pytest.raises(errors.IdempotencyConflict):
        flow.submit(plan, idempotency_key="once")


def test_without_a_terminal_a_strict_run_is_refused_or_waits(
    flow: AgentFlow, capsys: pytest.CaptureFixture[str], plan: Path
) -> None:
    assert "--detach" in complain(capsys, "run", plan, "--mode", "strict", code=2)
    assert not list(flow.runs())

    told = ask(capsys, "run", plan, "--mode", "strict", "--detach")

    assert told["state"] == "waiting"


@pytest.mark.parametrize(
    ("typed", "code", "state"), [("y\n", 130, "running"), ("\n", 1, "failed"), ("nope\n", 1, "failed")]
)
def test_at_a_terminal_a_strict_run_shows_its_plan_and_asks(
    flow: AgentFlow, strict: TypedTerminal, typed: str, code: int, state: str
) -> None:
    run = flow.get("@last")
    assert run.state == "waiting"
    assert "gate approve-execution" in strict.text

    strict.press(typed)
    wait_for(lambda: run.refresh().state == state)
    if state == "running":  # no worker is there: the follower is sent away
        wait_for(lambda: "first" in strict.text.rpartition("[y/N]")[2])
        strict.process.send_signal(signal.SIGINT)

    assert strict.end() == code
    [gate] = flow.gate_history(run)
    assert gate.gate.decisions[0].actor == flow.settings.actor


def test_a_question_that_is_left_leaves_the_run_waiting(flow: AgentFlow, strict: TypedTerminal) -> None:
    strict.press("\x04")

    assert strict.end() == 130
    short = flow.get("@last").id[:8]
    assert f"agentflow approve {short}" in strict.text
    assert f"agentflow reject {short} --why" in strict.text
    assert flow.get("@last").state == "waiting"


def test_a_dry_run_tells_everything_and_writes_nothing(
    flow: AgentFlow, capsys: pytest.CaptureFixture[str], plan: Path
) -> None:
    told = ask(capsys, "run", plan, "--mode", "dry-run")
    strict = ask(capsys, "run", plan, "--mode", "strict", "--dry-run")
    page = say(capsys, "run", plan, "--dry-run", "--mode", "dry_run")

    assert (told["mode"], told["levels"], told["gates"]) == ("auto", [["first"], ["second"]], [])
    assert told["cost"] == {"calls": 0, "tokens": None, "usd": None, "unbounded": {}} | {"tokens": 0, "usd": 0}
    assert [gate["step"] for gate in strict["gates"]] == [APPROVE_EXECUTION]
    assert "no model is called" in page
    assert not list(flow.runs())
    with pytest.raises(errors.UsageError, match="check"):
        flow.submit(plan, mode="dry-run")
    assert "no mode" in complain(capsys, "run", plan, "--mode", "lax", code=2)


ASKING = """
agentflow: 1
name: asking
steps:
  - {id: ask, llm: {model: "unheard:of", prompt: Go., max_tokens: 100, price: {input: 1, output: 2}}, retry: 2}
"""


def test_a_dry_run_counts_the_child_runs_whose_plans_are_at_hand(
    flow: AgentFlow, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = "- {id: near, run: {plan: ./asking.yaml}}\n  - {id: far, run: {plan: asking@1}}"
    above = tmp_path / "above.yaml"
    above.write_text(f"agentflow: 1\nname: above\nsteps:\n  {steps}\n", encoding="utf-8")
    (tmp_path / "asking.yaml").write_text(ASKING, encoding="utf-8")
    alone = flow.check(tmp_path / "asking.yaml").forecast.cost

    before = say(capsys, "run", above, "--dry-run")
    flow.push(tmp_path / "asking.yaml")
    known = flow.check(above).forecast.cost
    monkeypatch.setenv("AGENTFLOW_DATABASE_URL", "postgresql://nobody@127.0.0.1:1/none")
    away = ask(capsys, "run", above, "--dry-run")

    assert (known.calls, known.most_tokens, known.unbounded) == (4, 2 * alone.tokens, {})
    assert "in up to 2 calls, plus child runs, not known" in before
    assert "far is a child run, whose plan is not known here" in before
    assert away["cost"] == {"calls": 2, "tokens": None, "usd": None, "unbounded": {"far": "unknown_child"}}


def test_a_hash_takes_exactly_one_plan_and_tells_what_drifted(
    flow: AgentFlow, capsys: pytest.CaptureFixture[str], plan: Path
) -> None:
    meant = Plan.load(plan).plan.fingerprint
    flow.push(plan)
    assert flow.submit(plan, plan_hash=meant[:8]).summary.plan_fingerprint == meant
    assert flow.submit_stored("careful", plan_hash=meant).summary.plan_fingerprint == meant

    plan.write_text(PLAN.replace("second, noop: {}", "second, noop: {}, timeout: 5s") + "  - {id: third, noop: {}}\n")
    error = ask(capsys, "run", plan, "--plan-hash", meant[:12], "--detach", code=2)["error"]

    found = Plan.load(plan).plan.fingerprint
    assert (error["code"], error["details"]["wanted"], error["details"]["found"]) == ("plan_drift", meant, found)
    assert error["details"]["diff"]["changed"] == {"second": ["timeout"]}
    assert "added third" in error["message"]
    with pytest.raises(errors.PlanDrift, match="not known here"):
        flow.check(plan, plan_hash="0123456789")
    with pytest.raises(errors.UsageError, match="8 to 64"):
        flow.submit(plan, plan_hash="0123")
    assert len(list(flow.runs())) == 2
