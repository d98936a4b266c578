"""python and notify steps through a real worker: what ends up in rows, and what must not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import text

from agentflow.content.store import Address
from agentflow.domain.state import RunState
from agentflow.embedded import ServerUrls
from agentflow.engine.gather import artifact_name
from agentflow.engine.retry import retry
from agentflow.runtime import Runtime
from tests.factories import attempt_rows, command_step, noop_step, shell_step, step_rows, submitted, wait_for_end
from tests.http_service import HttpService, answer
from tests.integration.engine.conftest import Station, _opened
from tests.smtp_service import SmtpService
from tests.unit.cli.answers import check

MODULE = "tests.integration.executors.called"
SENTINEL = "sesame-4711"


@pytest.fixture(scope="module")
def hook() -> Iterator[HttpService]:
    """A webhook on this machine."""
    with HttpService(answer(204)) as service:
        yield service


@pytest.fixture(scope="module")
def mailbox() -> Iterator[SmtpService]:
    """A mail server on this machine."""
    with SmtpService() as service:
        yield service


@pytest.fixture(scope="module")
def station(
    servers: ServerUrls,
    template: str,
    hook: HttpService,
    mailbox: SmtpService,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Station]:
    """A worker that allows some functions, and may call the hook and the mail server."""
    environment = {
        "AGENTFLOW_PYTHON_CALLS": f"{MODULE}:*",
        "AGENTFLOW_HTTP_PRIVATE_HOSTS": f"127.0.0.1:{hook.port}",
        "AGENTFLOW_SMTP_URL": mailbox.url,
        "AGENTFLOW_SMTP_FROM": "house@agentflow.example",
        "AGENTFLOW_SECRET_HOOK": f"{hook.url}{SENTINEL}",
    }
    with _opened(servers, template, tmp_path_factory.mktemp("calls"), "-c", "2", **environment) as station:
        yield station


def _python(key: str, name: str, needs: list[str] | None = None, **fields: Any) -> dict[str, Any]:
    args = {"args": fields.pop("args")} if "args" in fields else {}
    return {"id": key, "needs": needs or [], "python": {"call": f"{MODULE}:{name}", **args}, **fields}


def _notify(key: str, needs: list[str], **notify: Any) -> dict[str, Any]:
    return {"id": key, "needs": needs, "notify": notify}


def _mentions(house: Runtime, sentinel: str) -> list[str]:
    """The tables in whose rows a text stands."""
    with house.context.database.transaction() as tx:
        tables = tx.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).scalars().all()
        rows = {table: tx.execute(text(f"SELECT t::text FROM {table} AS t")).scalars().all() for table in tables}
    return [table for table, found in rows.items() if any(sentinel in row for row in found)]


def test_a_function_gets_what_steps_said_and_its_result_goes_on(station: Station) -> None:
    context = station.house.context
    steps = [
        command_step("says", "echo", "-n", "hello"),
        _python("call", "echo", ["says"], args={"text": "{{ steps.says.stdout }} {{ run.id }}", "n": 2}),
        noop_step("good", ["call"], when="steps.call.result.n == 2"),
        shell_step("reads", 'test "$TEXT" != ""', ["call"], env={"TEXT": "{{ steps.call.result.text }}"}),
    ]
    run_id = submitted(context, steps)

    assert wait_for_end(context, run_id, 60) is RunState.COMPLETED
    rows = step_rows(context, run_id)
    assert rows["call"].result == {"text": f"hello {run_id}", "n": 2}
    assert rows["good"].state == "succeeded"


def test_of_an_exception_no_row_has_more_than_the_class(station: Station) -> None:
    context = station.house.context
    step = _python("call", "fail", args={"message": SENTINEL}, retry={"max_attempts": 2, "base": "10ms", "jitter": 0})
    run_id = submitted(context, [step])

    assert wait_for_end(context, run_id, 60) is RunState.FAILED
    row = step_rows(context, run_id)["call"]
    assert row.reason == {"code": "raised", "detail": {"error": "OddError"}}
    assert [attempt.exit_code for attempt in attempt_rows(context, run_id)] == [1, 1]
    assert _mentions(station.house, SENTINEL) == []


def test_a_retry_may_be_bound_to_the_class_of_the_exception(station: Station) -> None:
    context = station.house.context

    def step(key: str, message: str) -> dict[str, Any]:
        policy = {"max_attempts": 2, "base": "10ms", "jitter": 0, "on_messages": [message]}
        return _python(key, "fail", args={"message": "x"}, retry=policy, on_failure="ignore")

    steps = [step("same", "OddError"), step("other", "KeyError")]
    run_id = submitted(context, steps)

    wait_for_end(context, run_id, 60)
    assert [len(attempt_rows(context, run_id, key)) for key in ("same", "other")] == [2, 1]


def test_what_is_not_allowed_or_not_there_fails_at_once_and_says_what_to_do(station: Station) -> None:
    context = station.house.context
    steps = [
        {"id": "closed", "needs": [], "python": {"call": "os:getcwd"}, "on_failure": "continue"},
        _python("missing", "missing", on_failure="continue"),
    ]
    run_id = submitted(context, steps)

    assert wait_for_end(context, run_id, 60) in (RunState.FAILED, RunState.PARTIAL)
    closed, missing = step_rows(context, run_id).values()
    assert "python_calls of its worker (AGENTFLOW_PYTHON_CALLS) does not allow 'os:getcwd'" in str(closed.reason)
    assert f"cannot import '{MODULE}:missing'" in str(missing.reason)
    assert (closed.attempts, missing.attempts) == (1, 1)


def test_a_webhook_is_told_counts_and_nothing_else(station: Station, hook: HttpService) -> None:
    context = station.house.context
    steps = [
        _python("work", "nothing", args={}),
        _notify("hooked", ["work"], webhook="{{ secrets.HOOK }}"),
        noop_step("last", ["hooked"]),
    ]
    run_id = submitted(context, steps, secrets=["HOOK"])

    assert wait_for_end(context, run_id, 60) is RunState.COMPLETED
    sent, row = json.loads(hook.requests[-1].body), step_rows(context, run_id)["hooked"]
    check(sent, "notice")
    assert (sent["schema"], sent["run"], sent["step"]) == ("agentflow.notice/1", str(run_id), "hooked")
    assert (sent["state"], sent["round"]) == ("running", 1)
    assert sent["steps"] == {"pending": 1, "running": 1, "succeeded": 1}
    assert sent["usage"] == {"attempts": 2, "calls": 0, "tokens": 0, "usd": 0.0, "unpriced_calls": 0}
    assert hook.requests[-1].headers["idempotency-key"] == sent["id"] == f"{row.id}-1"
    assert SENTINEL not in json.dumps(sent)


def test_a_new_round_is_a_new_notice(station: Station, hook: HttpService) -> None:
    context = station.house.context
    hook.answer = answer(422)
    run_id = submitted(context, [{"id": "n", "notify": {"webhook": "{{ secrets.HOOK }}"}}], secrets=["HOOK"])
    try:
        assert wait_for_end(context, run_id, 60) is RunState.FAILED
        first = hook.requests[-1].headers["idempotency-key"]
    finally:
        hook.answer = answer(204)

    retry(context, run_id, "tester@test")
    assert wait_for_end(context, run_id, 60) is RunState.COMPLETED
    assert (first[-2:], hook.requests[-1].headers["idempotency-key"]) == ("-1", f"{first[:-2]}-2")


def test_a_mail_and_a_command_are_told(station: Station, mailbox: SmtpService) -> None:
    context = station.house.context
    steps = [
        _notify("mailed", [], email="ops@example.org"),
        _notify("kept", ["mailed"], command=["/bin/sh", "-c", 'cat > "$AGENTFLOW_ARTIFACTS/told.json"']),
    ]
    run_id = submitted(context, steps)

    assert wait_for_end(context, run_id, 60) is RunState.COMPLETED
    mail = mailbox.mails[-1]
    assert (mail.sender, mail.recipients) == ("house@agentflow.example", ("ops@example.org",))
    assert str(run_id) in mail.message.get_content()
    with context.database.transaction() as tx:
        names = tx.execute(text("SELECT name FROM artifact WHERE run_id = :id"), {"id": run_id}).scalars().all()
    assert "told.json" in names
    with context.store.open(Address(str(run_id), artifact_name("told.json"), "kept", 1)) as told:
        assert check(json.load(told), "notice")["step"] == "kept"
