"""`resume` and `budget raise`, by the client and by the command line: what they do, say and leave in the audit."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from agentflow import AgentFlow, Run, errors
from agentflow.domain.budget import BudgetKind, Exhaustion
from agentflow.runtime import Runtime
from agentflow.settings import Settings
from tests.integration.client.conftest import Finish
from tests.integration.client.resting import cap, exhaust, noop_run
from tests.unit.cli.answers import ask, complain, say
from tests.workers import WorkerProcess

CAPPED = """
agentflow: 1
name: capped
budget: {steps: 2}
steps:
  - {id: a, subprocess: {command: ["true"]}}
  - {id: b, subprocess: {command: ["true"]}}
  - {id: c, subprocess: {command: ["true"]}}
"""


def over_tokens(run: Run, **figures: int) -> Exhaustion:
    amounts = {"limit": 1100, "used": 900, "reserved": 0, "needed": 300} | figures
    return Exhaustion(BudgetKind.TOKENS, f"run:{run.id}", **amounts)


@pytest.fixture
def resting(flow: AgentFlow, house: Runtime, at_home: Settings) -> Run:
    """A run of 1,100 tokens that rests: 900 are used, and a step needs 300."""
    run = noop_run(flow)
    cap(house, run, tokens=1100)
    exhaust(house, run, over_tokens(run))
    return run


def test_a_resting_run_ends_a_wait_and_tells_what_to_type(resting: Run, capsys: pytest.CaptureFixture[str]) -> None:
    short = resting.id[:8]

    told = say(capsys, "watch", resting.id, code=5)

    assert "the budget of tokens of the run is exhausted: 900 of 1,100 used, 300 needed" in told
    assert f"agentflow budget raise {short} --tokens +100 " in told
    assert f"agentflow resume {short} " in told
    assert "agentflow watch" not in told
    assert "is exhausted" in say(capsys, "wait", resting.id, code=5)
    assert ask(capsys, "wait", resting.id, code=5)["reason"]["detail"]["needed"] == 300
    assert f"agentflow budget raise {short} --tokens +100 " in say(capsys, "show", resting.id)


def test_a_budget_is_raised_and_the_run_resumed(
    resting: Run, finish: Finish, flow: AgentFlow, capsys: pytest.CaptureFixture[str]
) -> None:
    short = resting.id[:8]
    refused = complain(capsys, "resume", resting.id, code=2)
    assert "of 1100 tokens, 900 are used and 300 needed" in refused
    assert f"agentflow budget raise {resting.id} --tokens +100" in refused

    told = say(capsys, "budget", "raise", resting.id, "--tokens", "+50")
    assert f"Run {short} may use 1,150 tokens now, 1,100 tokens before." in told
    assert f"agentflow resume {short}" in told
    assert "--tokens +50" in complain(capsys, "resume", resting.id, code=2)

    answer = ask(capsys, "budget", "raise", resting.id, "--tokens", "50")
    assert answer["raised"] == [{"budget": "tokens", "before": 1150, "after": 1200}]
    assert answer["state"] == "exhausted"
    assert f"Run {short} goes on with one." in say(capsys, "resume", short)
    assert finish(flow.get(resting.id)).state == "completed"
    assert "has ended (completed) and does not rest" in complain(capsys, "resume", short, code=2)


def test_resume_answers_with_the_run_and_what_is_due(
    flow: AgentFlow, house: Runtime, at_home: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    run = noop_run(flow, "one", "two")
    exhaust(house, run, Exhaustion(BudgetKind.USD, "project:default", limit=10**9, used=10**9, reserved=0, needed=1))

    assert "$1.00 of $1.00 used" in say(capsys, "show", run.id)
    assert "agentflow budget raise" not in say(capsys, "show", run.id)
    answer = ask(capsys, "resume", run.id)

    assert (answer["state"], answer["due"]) == ("running", ["one"])
    assert ask(capsys, "resume", run.id, code=2)["error"]["code"] == "invalid_transition"


def test_a_run_that_rests_over_the_budget_of_a_day_says_when_it_goes_on_by_itself(
    flow: AgentFlow, house: Runtime, at_home: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    run = noop_run(flow)
    day, scope = datetime(2100, 1, 1, tzinfo=UTC), "project:default@2099-12-31"
    exhaust(house, run, Exhaustion(BudgetKind.TOKENS, scope, limit=5, used=5, reserved=0, needed=1, resets_at=day))

    told = say(capsys, "show", run.id)

    assert "of project default on 2099-12-31 is exhausted" in told
    assert "it goes on by itself at 2100-01-01 00:00:00 UTC" in told


def test_a_worker_comes_to_rest_over_a_budget_and_goes_on_once_it_is_raised_and_resumed(
    tmp_path: Path, worker: WorkerProcess, at_home: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "capped.yaml").write_text(CAPPED)

    told = say(capsys, "run", tmp_path / "capped.yaml", code=5)
    short = ask(capsys, "show", "@last")["id"][:8]
    [balance] = ask(capsys, "budget", "show", "@last")["scopes"]
    [steps] = [line for line in balance["budgets"] if line["budget"] == "steps"]

    assert "the budget of steps of the run is exhausted: 2 of 2 used, 1 needed" in told
    assert f"agentflow budget raise {short} --steps +1 " in told
    assert (steps["used"], steps["left"]) == (2, 0)
    assert "3 steps now, 2 steps before" in say(capsys, "budget", "raise", "@last", "--steps", "+1")
    assert ask(capsys, "resume", "@last")["due"] == ["c"]
    assert ask(capsys, "wait", "@last", "--timeout", "30s")["budget"][0]["used"] == 3


def test_every_budget_that_a_run_rests_over_is_in_the_command_to_type(
    flow: AgentFlow, house: Runtime, at_home: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    run = noop_run(flow)
    cap(house, run, tokens=1100, usd_nano=10**8, active_seconds=60.0)
    usd = Exhaustion(BudgetKind.USD, f"run:{run.id}", limit=10**8, used=9 * 10**7, reserved=0, needed=2 * 10**7)
    time = Exhaustion(BudgetKind.ACTIVE_TIME, f"run:{run.id}", limit=60, used=61.4, reserved=0, needed=0)
    exhaust(house, run, over_tokens(run, used=1_500_000), usd, time)

    [command] = [line for line in say(capsys, "show", run.id).splitlines() if "budget raise" in line]
    options = command.split("the least")[0].split()[4:]

    assert options == ["--tokens", "+1499200", "--usd", "+0.01", "--active-time", "+2s"]
    raised = ask(capsys, "budget", "raise", run.id, *options)["raised"]
    assert [each["after"] for each in raised] == [1_500_300, 0.11, 62]
    assert ask(capsys, "resume", run.id)["due"] == ["one"]


def test_a_raise_is_in_the_audit_with_its_actor(
    resting: Run, flow: AgentFlow, house: Runtime, capsys: pytest.CaptureFixture[str]
) -> None:
    raised = resting.raise_budget(tokens=100)
    resumed = resting.resume()

    assert raised.as_json() == [{"budget": "tokens", "before": 1100, "after": 1200}]
    assert (resumed.ready, resting.state) == (("one",), "running")
    events = [event for event in resting.events() if event.step is None][1:]
    assert [(event.action, event.actor) for event in events] == [
        ("raise_budget", house.settings.actor),
        ("resume", house.settings.actor),
    ]
    assert events[0].facts == {"tokens": [1100, 1200]}
    assert ask(capsys, "audit", "verify", resting.id, schema="audit-report")["is_intact"]


def test_what_a_run_does_not_cap_cannot_be_raised(
    resting: Run, flow: AgentFlow, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "has no budget of usd, active_time" in complain(
        capsys, "budget", "raise", resting.id, "--usd", "1", "--active-time", "10m", code=2
    )
    assert "Say by how much" in complain(capsys, "budget", "raise", resting.id, code=2)
    assert "larger than a budget can be: 1,000" in complain(
        capsys, "budget", "raise", resting.id, "--tokens", str(10**15), code=2
    )
    resting.cancel()
    with pytest.raises(errors.InvalidTransition, match="has ended"):
        resting.raise_budget(tokens=5)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--tokens", "-5"), "can only be raised"),
        (("--tokens", "0"), "whole number above 0"),
        (("--tokens", "+1.5"), "whole number above 0"),
        (("--steps", "1e3"), "whole number above 0"),
        (("--steps", "000"), "whole number above 0"),
        (("--steps", "9" * 5000), "steps takes at most 1,000,000,000,000,000 to add"),
        (("--tokens", "0" * 20 + "9" * 26), "tokens takes at most 1,000,000,000,000,000 to add"),
        (("--usd", "1000000.01"), "usd takes at most 1,000,000 to add"),
        (("--usd", "-0.5"), "can only be raised"),
        (("--usd", "+0"), "amount above 0"),
        (("--usd", "nan"), "amount above 0"),
        (("--active-time", "-5m"), "can only be raised"),
        (("--active-time", "+10"), "write a unit"),
        (("--active-time", "0s"), "above 0"),
    ],
)
def test_what_is_no_addition_is_a_usage_error(
    arguments: tuple[str, ...], words: str, resting: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in complain(capsys, "budget", "raise", resting.id, *arguments, code=2)
    assert resting.refresh().reason is not None
