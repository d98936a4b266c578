"""`limits`, by the client and by the command line, from claims and breakers as workers leave them."""

from __future__ import annotations

from typing import Any

import pytest

from agentflow import AgentFlow, errors
from agentflow.domain.ids import StepKey
from agentflow.engine.claim import claim
from agentflow.runtime import Runtime
from agentflow.settings import Settings
from tests.factories import noop_step, submitted
from tests.unit.cli.answers import ask, complain, say

DB: dict[str, Any] = {"concurrency": {"key": "db", "limit": 2}}
API: dict[str, Any] = {"rate_limit": {"key": "api", "limit": "30/m"}}
ENDPOINT = "openai@127.0.0.1:1"


@pytest.fixture
def busy(house: Runtime, at_home: Settings) -> str:
    """A run of which two steps hold places, one has a ticket and one waits for a place; and a breaker that is open."""
    steps = [noop_step(key, needs=[], **DB) for key in ("a", "b", "c")]
    steps += [noop_step(key, needs=[], **API) for key in ("x", "y")]
    run_id = submitted(house.context, steps)
    for key in ("a", "b", "x", "y"):
        claim(house.context, run_id, StepKey(key), "worker@host:7")
    for _ in range(5):
        house.context.breakers.record(ENDPOINT, is_success=False)
    return str(run_id)


def test_rates_places_and_breakers_are_told(busy: str, capsys: pytest.CaptureFixture[str]) -> None:
    answer = ask(capsys, "limits")
    page = say(capsys, "limits")

    (rate,), (places,), (breaker,) = answer["rates"], answer["concurrencies"], answer["breakers"]
    assert (rate["key"], rate["per_minute"], rate["waiting"]) == ("api", 30.0, 1)
    assert [each["step"] for each in rate["first_waiting"]] == ["y"]
    assert (places["key"], places["places"], places["waiting"]) == ("db", 2, 1)
    assert [(each["step"], each["run"], each["worker"]) for each in places["holders"]] == [
        ("a", busy, "worker@host:7"),
        ("b", busy, "worker@host:7"),
    ]
    assert (breaker["endpoint"], breaker["state"], breaker["failed"]) == (ENDPOINT, "open", 5)
    assert 0 < breaker["retry_after_seconds"] <= 30
    assert "30/m" in page
    assert "2 of 2" in page
    assert f"{busy[:8]} c" in page
    assert ENDPOINT in page


def test_one_key_is_told_alone_and_an_unknown_one_is_not_found(busy: str, capsys: pytest.CaptureFixture[str]) -> None:
    db = ask(capsys, "limits", "db")
    assert (db["rates"], len(db["concurrencies"]), db["breakers"]) == ([], 1, [])
    assert ask(capsys, "limits", ENDPOINT)["breakers"][0]["state"] == "open"

    assert "did you mean 'api'?" in complain(capsys, "limits", "apis", code=2)
    assert ask(capsys, "limits", "nothing", code=2)["error"]["code"] == "not_found"


def test_an_installation_without_limits_says_so(at_home: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert ask(capsys, "limits")["rates"] == []
    assert say(capsys, "limits") == "No limits are in use.\n"


def test_without_redis_the_limits_are_told_and_the_breakers_are_unknown(
    busy: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("AGENTFLOW_REDIS_URL", "redis://127.0.0.1:1/0")

    answer = ask(capsys, "limits")

    assert answer["breakers"] is None
    assert answer["concurrencies"][0]["key"] == "db"
    assert "Redis does not answer" in say(capsys, "limits")


def test_the_client_tells_the_same(busy: str, flow: AgentFlow) -> None:
    assert flow.limits().keys == ["api", "db", ENDPOINT]
    assert [each.key for each in flow.limits("api").limits.rates] == ["api"]
    with pytest.raises(errors.NotFound, match="No limit in use"):
        flow.limits("other")
