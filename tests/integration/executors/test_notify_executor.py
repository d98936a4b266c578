"""A notice on its three ways: what is sent, and what each mishap is called."""

from __future__ import annotations

import json
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from agentflow.domain.action import NotifyAction
from agentflow.domain.call import CallProblem
from agentflow.executors.base import Assignment, Lifeline, Performance, StopReason, close_executors
from agentflow.executors.command import Ended
from agentflow.executors.environment import allowed_environment
from agentflow.executors.notify import MailWorld, NotifyExecutor
from agentflow.executors.smtp import MailServer
from tests.http_service import HttpService, answer
from tests.smtp_service import SmtpService

NOTICE = {
    "schema": "agentflow.notice/1",
    "id": "0b6f-2",
    "run": "6d1c",
    "step": "tell",
    "project": "default",
    "plan": {"name": "nightly", "fingerprint": "f" * 64},
    "state": "running",
    "round": 2,
    "steps": {"running": 1, "succeeded": 3},
    "usage": {"attempts": 4, "calls": 1, "tokens": 120, "usd": 0.002, "unpriced_calls": 0},
    "created_at": "2026-01-01T00:00:00.000000Z",
    "started_at": "2026-01-01T00:00:01.000000Z",
    "at": "2026-01-01T00:00:02.000000Z",
}
_CERTIFICATE = Path(__file__).with_name("service_test.pem")
SENDER = "agentflow@house.example"
Tell = Callable[..., Performance]


@pytest.fixture(autouse=True)
def _fresh_executors() -> Iterator[None]:
    close_executors()
    yield
    close_executors()


@pytest.fixture
def tell(tmp_path: Path) -> Tell:
    """Perform a notify action; ``server`` is the url of the mail server."""

    def perform(*, server: str | None = None, lifeline: Lifeline | None = None, **wishes: Any) -> Performance:
        mail = MailWorld(None if server is None else MailServer.from_url(server), SENDER)
        timeout_seconds = wishes.pop("timeout_seconds", 30.0)
        assignment = Assignment(
            run_id="6d1c",
            step_key="tell",
            attempt=1,
            action=NotifyAction(**wishes),
            scratch=tmp_path,
            timeout_seconds=timeout_seconds,
            texts={"payload": json.dumps(NOTICE)},
            environment=allowed_environment(os.environ),
        )
        executor = NotifyExecutor(mail)
        executor.estimate(assignment)
        return executor.perform(assignment, lifeline or Lifeline(20))

    return perform


def _problem(performance: Performance) -> CallProblem | None:
    assert performance.call is not None
    return performance.call.problem


def test_a_webhook_gets_the_notice_with_a_key_that_is_the_same_in_every_attempt(
    tell: Tell, monkeypatch: pytest.MonkeyPatch
) -> None:
    with HttpService(answer(204)) as service:
        monkeypatch.setenv("AGENTFLOW_HTTP_PRIVATE_HOSTS", f"127.0.0.1:{service.port}")
        performance = tell(webhook=service.url)

    assert (performance.ended, _problem(performance)) == (Ended.EXITED, None)
    (request,) = service.requests
    assert request.line == "POST / HTTP/1.1"
    assert json.loads(request.body) == NOTICE
    assert request.headers["idempotency-key"] == "0b6f-2"
    assert request.headers["content-type"] == "application/json"


def test_a_webhook_in_a_private_network_is_not_called(tell: Tell) -> None:
    with HttpService() as service:
        assert _problem(tell(webhook=service.url)) is CallProblem.PRIVATE_ADDRESS

    assert service.requests == []


def test_a_command_gets_the_notice_on_its_stdin(tell: Tell, tmp_path: Path) -> None:
    performance = tell(command=("/bin/sh", "-c", 'cat > "$AGENTFLOW_ARTIFACTS/told.json"'))

    assert performance.exit_code == 0
    assert json.loads((tmp_path / "artifacts" / "told.json").read_text()) == NOTICE


def test_a_mail_says_how_the_run_stands(tell: Tell) -> None:
    with SmtpService() as service:
        performance = tell(email=("a@example.org", "b@example.org"), server=service.url)

    assert (performance.exit_code, _problem(performance)) == (0, None)
    (mail,) = service.mails
    assert (mail.sender, mail.recipients) == (SENDER, ("a@example.org", "b@example.org"))
    assert mail.message["Subject"] == "[agentflow] nightly: running"
    assert mail.message["Message-ID"] == "<0b6f-2@house.example>"
    text = mail.message.get_content()
    assert "1 running, 3 succeeded" in text
    assert "4 attempts, 120 tokens, 0.0020 USD" in text


@pytest.mark.parametrize(
    ("answers", "problem", "status"),
    [
        ({"RCPT": "550 nobody"}, CallProblem.REJECTED, 550),
        ({"RCPT": "451 later"}, CallProblem.UNAVAILABLE, 451),
        ({"MAIL": "421 busy"}, CallProblem.UNAVAILABLE, 421),
        ({"DATA": "554 no"}, CallProblem.REJECTED, 554),
        ({".": "452 full"}, CallProblem.UNAVAILABLE, 452),
        ({"MAIL": ""}, CallProblem.CONNECTION_LOST, None),
    ],
)
def test_what_a_mail_server_refuses_has_a_name(
    tell: Tell, answers: dict[str, str], problem: CallProblem, status: int | None
) -> None:
    with SmtpService(answers) as service:
        performance = tell(email=("a@example.org",), server=service.url)

    assert performance.call is not None
    assert (performance.call.problem, performance.call.provider_status) == (problem, status)
    assert service.mails == []


def test_a_mail_server_that_is_not_there_was_not_reached(tell: Tell) -> None:
    with SmtpService() as service:
        url = service.url

    performance = tell(email=("a@example.org",), server=url)

    assert _problem(performance) is CallProblem.NOT_CONNECTED
    assert performance.call is not None
    assert not performance.call.was_sent


def test_a_password_goes_over_an_encrypted_line(tell: Tell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(_CERTIFICATE))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(_CERTIFICATE)
    asked = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda _host, *more, **named: asked("127.0.0.1", *more, **named))
    with SmtpService(extensions=("STARTTLS", "AUTH PLAIN"), tls=tls) as service:
        performance = tell(email=("a@example.org",), server=f"smtp://ann:p%40ss@service.test:{service.port}")
        other = tell(email=("a@example.org",), server=f"smtp://ann:p%40ss@other.test:{service.port}")

    assert (_problem(performance), _problem(other)) == (None, CallProblem.NO_ENCRYPTION)
    assert len(service.mails) == 1
    assert service.mails[0].is_encrypted
    assert service.commands.index("STARTTLS") < service.commands.index("AUTH")


def test_a_password_that_is_not_accepted_is_no_reason_to_try_again(tell: Tell) -> None:
    with SmtpService({"AUTH": "535 no"}, extensions=("AUTH PLAIN",)) as service:
        performance = tell(email=("a@example.org",), server=f"smtp://ann:x@127.0.0.1:{service.port}")

    assert _problem(performance) is CallProblem.UNAUTHENTICATED


def test_a_password_goes_over_no_open_line(tell: Tell, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MailServer, "is_here", property(lambda _server: False))
    with SmtpService(extensions=("AUTH PLAIN",)) as service:
        performance = tell(email=("a@example.org",), server=f"smtp://ann:x@127.0.0.1:{service.port}")

    assert _problem(performance) is CallProblem.NO_ENCRYPTION
    assert "AUTH" not in service.commands


def test_without_a_mail_server_nothing_is_sent(tell: Tell) -> None:
    assert _problem(tell(email=("a@example.org",))) is CallProblem.NO_MAIL_SERVER


@pytest.mark.parametrize("address", ["", "a@b\r\nBcc: c@d", "not one"])
def test_an_address_that_was_rendered_is_checked_again(tell: Tell, address: str) -> None:
    with SmtpService() as service:
        assert _problem(tell(email=(address,), server=service.url)) is CallProblem.REJECTED

    assert service.commands == []


def test_a_mail_that_takes_too_long_times_out(tell: Tell) -> None:
    with SmtpService(silent_at="MAIL") as service:
        performance = tell(email=("a@example.org",), server=service.url, timeout_seconds=0.5)

    assert performance.ended is Ended.TIMED_OUT


def test_a_cancel_ends_a_mail_on_its_way(tell: Tell) -> None:
    lifeline, ended = Lifeline(20), list[Performance]()
    with SmtpService(silent_at="RCPT") as service:
        wishes = {"email": ("a@example.org",), "server": service.url, "lifeline": lifeline}
        thread = threading.Thread(target=lambda: ended.append(tell(**wishes)))
        thread.start()
        assert service.reached_silence.wait(20)
        lifeline.stop(StopReason.CANCELLED)
        thread.join(10)

    assert ended[0].ended is Ended.STOPPED


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [("smtp://mail.example", "mail.example", 25), ("smtps://u:p@mail.example", "mail.example", 465)],
)
def test_the_port_follows_from_the_scheme(url: str, host: str, port: int) -> None:
    server = MailServer.from_url(url)

    assert server is not None
    assert (server.host, server.port) == (host, port)
    assert "p@" not in repr(server)
