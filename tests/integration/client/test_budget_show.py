"""`budget show` and the usage in `show`: what Postgres says of each scope, and where the ledger in Redis differs."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from agentflow import AgentFlow, errors
from agentflow.domain.budget import Amounts, Budget, Scope
from agentflow.domain.call import CallUsage
from agentflow.domain.ids import ClaimToken, RunId, StepKey, step_id
from agentflow.engine.reserve import Granted, ReserveRequest, reserve
from agentflow.runtime import Runtime
from agentflow.settings import Settings
from tests.integration.client.resting import attempt, cap, noop_run
from tests.unit.cli.answers import ask, check, complain, say

CONFIGURATION = """
[budgets]
timezone = "Pacific/Kiritimati"
installation = {usd_per_day = 20}

[budgets.project.ops]
tokens = 5000
tokens_per_day = 1000

[budgets.project."*"]
usd = 3

[budgets.directive."ops/careful"]
tokens = 700
"""


def paid(tokens: int, usd: float, **more: Any) -> CallUsage:
    return CallUsage(input_tokens=tokens - 10, output_tokens=10, usd_nano=round(usd * 1e9), **more)


@pytest.fixture
def configured(at_home: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command line's environment, with a configuration file."""
    (tmp_path / "caps.toml").write_text(CONFIGURATION)
    monkeypatch.setenv("AGENTFLOW_CONFIG", str(tmp_path / "caps.toml"))


def scopes(answer: dict[str, Any]) -> dict[str, dict[str, tuple[Any, ...]]]:
    """What is said of each kind: limit, used, reserved, left; a day's scope without its date."""
    names = ("limit", "used", "reserved", "left")
    return {
        each["scope"].split("@")[0] + "@" * ("@" in each["scope"]): {
            line["budget"]: tuple(line[name] for name in names) for line in each["budgets"]
        }
        for each in answer["scopes"]
    }


def test_every_scope_of_a_run_is_told_its_own_first(
    flow: AgentFlow, house: Runtime, configured: None, capsys: pytest.CaptureFixture[str]
) -> None:
    run = noop_run(flow, "one", "two", "three", project="ops")
    cap(house, run, tokens=1100, steps=5, active_seconds=60.0)
    attempt(house, run, "one", usage=paid(200, 0.25))
    attempt(house, run, "two", usage=paid(400, 0.5), ago=timedelta(days=3))
    attempt(house, run, "three", state="running", reserved=Amounts(steps=1, tokens=300, usd_nano=10**8))

    answer = ask(capsys, "budget", "show", run.id)
    found = scopes(answer)

    assert list(found) == [f"run:{run.id}", "project:ops", "project:ops@", "installation@"]
    own = found[f"run:{run.id}"]
    assert own["tokens"] == (1100, 600, 300, 200)
    assert own["usd"] == (None, 0.75, 0.1, None)
    assert own["steps"] == (5, 2, 1, 2)
    assert own["active_time"][0] == 60
    assert 0 < own["active_time"][1] < 30
    assert found["project:ops"]["tokens"] == (5000, 600, 300, 4100)
    assert found["project:ops@"]["tokens"] == (1000, 200, 300, 500)
    assert found["installation@"]["usd"] == (20, 0.25, 0.1, 19.65)
    assert answer["timezone"] == "Pacific/Kiritimati"
    today = answer["scopes"][2]
    assert today["resets_at"].endswith("T10:00:00.000000Z")  # midnight there
    page = say(capsys, "budget", "show", run.id)
    assert "the run" in page
    assert "project ops on " in page
    assert "10:00:00 UTC" in page


def test_a_project_and_a_directive_are_told_in_all_and_for_today(
    flow: AgentFlow, house: Runtime, configured: None, capsys: pytest.CaptureFixture[str]
) -> None:
    attempt(house, noop_run(flow, project="ops"), usage=paid(200, 0.25))
    attempt(house, noop_run(flow, project="lab"), usage=paid(100, 1.5))

    assert scopes(ask(capsys, "budget", "show", "--project", "ops"))["project:ops"]["tokens"] == (5000, 200, 0, 4800)
    lab = scopes(ask(capsys, "budget", "show", "--project", "lab"))
    assert lab["project:lab"] == {"tokens": (None, 100, 0, None), "usd": (3, 1.5, 0, 1.5)}
    assert lab["project:lab@"]["tokens"] == (None, 100, 0, None)
    careful = scopes(ask(capsys, "budget", "show", "--directive", "ops/careful"))
    assert careful["directive:ops/careful"]["tokens"] == (700, 0, 0, 700)
    assert list(scopes(ask(capsys, "budget", "show", "--project", "ops", "--day"))) == ["project:ops@"]


def test_without_a_run_all_that_is_capped_is_told(
    flow: AgentFlow, house: Runtime, configured: None, capsys: pytest.CaptureFixture[str]
) -> None:
    attempt(house, noop_run(flow, project="lab"), usage=paid(100, 1.5))

    found = scopes(ask(capsys, "budget", "show"))

    assert list(found) == [
        "installation", "installation@", "project:lab", "project:ops", "project:ops@", "directive:ops/careful",
    ]  # fmt: skip
    assert found["project:lab"]["usd"] == (3, 1.5, 0, 1.5)
    assert list(scopes(ask(capsys, "budget", "show", "--day"))) == ["installation@", "project:ops@"]
    assert "no cap" in say(capsys, "budget", "show")


def test_a_budget_that_is_used_up_has_nothing_left_and_not_less(
    flow: AgentFlow, house: Runtime, at_home: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    run = noop_run(flow)
    cap(house, run, tokens=100)
    attempt(house, run, usage=paid(130, 0.1))

    assert scopes(ask(capsys, "budget", "show", run.id))[f"run:{run.id}"]["tokens"] == (100, 130, 0, 0)


def test_the_ledger_is_told_only_where_it_was_asked_for_and_says_whether_it_differs(
    flow: AgentFlow, house: Runtime, at_home: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    run, other = noop_run(flow), noop_run(flow)
    cap(house, run, tokens=1100)
    attempt(house, run, usage=paid(200, 0.25))
    reserved = Amounts(steps=1, tokens=300)
    attempt_id, run_id = attempt(house, run, state="running", number=2, reserved=reserved), RunId(run.uuid)
    scope = Scope(f"run:{run.id}", Budget(tokens=1100), run_id=run_id)
    request = ReserveRequest(attempt_id, ClaimToken(attempt_id), step_id(run_id, StepKey("one")), (scope,), reserved)
    assert isinstance(reserve(house.context, request), Granted)

    assert "ledger" not in ask(capsys, "budget", "show", run.id)["scopes"][0]
    same = ask(capsys, "budget", "show", run.id, "--ledger")["scopes"][0]["ledger"]
    assert same["differs"] is False
    assert {"budget": "tokens", "used": 200, "reserved": 300} in same["budgets"]
    assert "as Postgres says" in say(capsys, "budget", "show", run.id, "--ledger")

    house.context.ledger.release(attempt_id, [scope.name])
    assert ask(capsys, "budget", "show", run.id, "--ledger")["scopes"][0]["ledger"]["differs"] is True
    assert "200 used and 0 reserved of tokens" in say(capsys, "budget", "show", run.id, "--ledger")
    assert ask(capsys, "budget", "show", other.id, "--ledger")["scopes"][0]["ledger"] is None
    assert "not loaded" in say(capsys, "budget", "show", other.id, "--ledger")


def test_the_client_tells_the_same(flow: AgentFlow, house: Runtime) -> None:
    run = noop_run(flow)
    cap(house, run, tokens=1100)

    [balance] = run.budget().balances

    assert [(line.budget, line.limit, line.left) for line in balance.lines if line.limit] == [("tokens", 1100, 1100)]
    check(flow.budget(project="lab").as_json())
    with pytest.raises(errors.UsageError, match="not several"):
        flow.budget(run, directive="ops/careful")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--project", "a b"), "no name of a project"),
        (("--directive", "ops/"), "no name of a project or a directive"),
        (("--project", "ops", "--directive", "ops/x"), "not both"),
    ],
)
def test_whose_budgets_cannot_be_meant_is_a_usage_error(
    arguments: tuple[str, ...], words: str, at_home: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert words in complain(capsys, "budget", "show", *arguments, code=2)


def test_a_run_shows_what_its_calls_used_and_how_its_budget_stands(
    flow: AgentFlow, house: Runtime, at_home: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    run = noop_run(flow, "one", "two")
    cap(house, run, tokens=1100, usd_nano=5 * 10**8)
    attempt(house, run, "one", usage=paid(210, 0.25))
    attempt(house, run, "two", usage=CallUsage(300, 0, is_estimated=True), model="unheard-of", finish_reason=None)
    attempt(house, run, "two", number=2, state="running", reserved=Amounts(steps=1, tokens=150))

    page = say(capsys, "show", run.id)
    answer = ask(capsys, "show", run.id)

    assert "510 tokens (500 in, 10 out), $0.25 in 2 calls (1 estimated, 1 of unknown price)" in page
    assert "510 of 1,100 tokens used, 150 reserved; $0.25 of $0.50 used" in page
    [one] = [line.split() for line in page.splitlines() if "openai:gpt-4o-mini" in line]
    assert one == ["one", "1", "openai:gpt-4o-mini", "200", "10", "$0.25", "1.5", "s"]
    assert "~300" in page
    assert "unknown" in page
    assert [line["left"] for line in answer["budget"]] == [440, 0.25]
    assert "budget" not in say(capsys, "show", noop_run(flow).id)
