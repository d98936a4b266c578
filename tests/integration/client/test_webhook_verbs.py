"""The verbs about webhooks on the command line: each answers as its schema says, and in words."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from agentflow.runtime import Runtime
from tests.http_service import HttpService, answer
from tests.integration.client.conftest import environment_of
from tests.unit.cli.answers import ask, complain, say


@pytest.fixture
def service(house: Runtime, monkeypatch: pytest.MonkeyPatch) -> Iterator[HttpService]:
    """A service that may be told, and an environment in which the command line finds the installation."""
    for name, value in environment_of(house.settings).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AGENTFLOW_HTTP_PRIVATE_HOSTS", "127.0.0.1")
    with HttpService() as service:
        yield service


def test_a_webhook_lives_by_the_command_line(service: HttpService, capsys: pytest.CaptureFixture[str]) -> None:
    assert "no webhooks yet" in say(capsys, "webhook", "list")
    secret = say(capsys, "webhook", "create", "ops", "--url", service.url, "--on", "run.failed,gate.opened").strip()
    made = ask(capsys, "webhook", "create", "other", "--url", service.url, "--project", "p", "--on", "run.failed")

    assert secret.startswith("whsec_")
    assert made["secret"] != secret
    assert ask(capsys, "webhook", "show", "ops")["on"] == ["run.failed", "gate.opened"]
    assert service.url in say(capsys, "webhook", "show", "ops")
    assert [each["name"] for each in ask(capsys, "webhook", "list")["webhooks"]] == ["ops", "other"]
    assert [each["name"] for each in ask(capsys, "webhook", "list", "--project", "p")["webhooks"]] == ["other"]
    assert "enabled" in say(capsys, "webhook", "list")
    assert secret not in say(capsys, "webhook", "show", "ops")

    assert "delivered: status 200" in say(capsys, "webhook", "test", "ops")
    service.answer = answer(500)
    sent = ask(capsys, "webhook", "test", "ops", code=1, schema="webhook-delivery")
    assert "failed: status 500" in say(capsys, "webhook", "test", "ops", code=1)
    page = ask(capsys, "webhook", "deliveries", "ops", "--limit", "2")
    rest = ask(capsys, "webhook", "deliveries", "ops", "--cursor", page["next_cursor"])
    assert [each["state"] for each in [*page["deliveries"], *rest["deliveries"]]] == ["failed", "failed", "delivered"]
    assert "server_error" in say(capsys, "webhook", "deliveries", "ops", "--state", "failed")
    assert ask(capsys, "webhook", "replay", "ops", sent["id"])["deliveries"] == [sent["id"]]
    assert "1 delivery is sent again" in say(capsys, "webhook", "replay", "ops", "--failed-since", "1h")

    assert ask(capsys, "webhook", "disable", "ops")["disabled"]["code"] == "asked"
    assert "disabled by" in say(capsys, "webhook", "show", "ops")
    assert "enabled" in say(capsys, "webhook", "enable", "ops")
    assert say(capsys, "webhook", "rotate", "ops").strip() not in ("", secret)
    assert "two until" in say(capsys, "webhook", "show", "ops")
    assert ask(capsys, "webhook", "remove", "other")["name"] == "other"
    assert "is removed" in say(capsys, "webhook", "remove", "ops")


def test_what_is_written_wrongly_is_answered_in_words(service: HttpService, capsys: pytest.CaptureFixture[str]) -> None:
    told = complain(capsys, "webhook", "create", "ops", "--url", service.url, "--on", "run.ended,x", code=2)
    assert "'run.ended', 'x' is nothing to be told of; there are run.submitted" in told
    assert "Give the ids" in complain(capsys, "webhook", "replay", "ops", code=2)
    assert "no such webhook" in complain(capsys, "webhook", "show", "ops", code=2)
