"""Webhooks: what an event tells, when a message is sent again, and how a message is checked."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as some

from agentflow.domain.webhook import (
    RETRY_SECONDS,
    SUBSCRIBABLE,
    EventType,
    Told,
    Webhook,
    origin_of,
    told_by,
    wait_seconds,
    write_secret,
)
from agentflow.engine.sign_webhook import headers_of, key_of
from tests.unit.cli.answers import read

HOWTO = Path(__file__).parents[3] / "docs" / "howto" / "webhooks.md"


@pytest.mark.parametrize(
    ("action", "moved", "reason", "facts", "told"),
    [
        ("claim", {"step:a": ["ready", "running"]}, None, {}, []),
        ("submit", {"run": [None, "running"]}, None, {}, [Told(EventType.RUN_SUBMITTED)]),
        ("fork", {}, None, {}, []),  # what the run that was forked has of it
        ("fork", {"run": [None, "pending"]}, None, {}, [Told(EventType.RUN_SUBMITTED)]),
        ("finalize", {"run": ["running", "partial"]}, None, {}, [Told(EventType.RUN_PARTIAL)]),
        ("cancel", {"run": ["running", "cancelling"]}, None, {}, []),
        ("cancel", {"run": ["pending", "cancelled"]}, None, {}, [Told(EventType.RUN_CANCELLED)]),
        ("retry", {"run": ["failed", "running"]}, None, {}, [Told(EventType.RUN_RETRIED)]),
        ("settle", {"step:a": ["running", "retrying"]}, {"code": "exit_code"}, {}, []),
        (
            "settle",
            {"step:a": ["running", "ready"]},
            {"code": "budget_exhausted"},
            {},
            [Told(EventType.BUDGET_EXHAUSTED)],
        ),
        (
            "settle",
            {"step:each[3].fetch": ["running", "failed"], "step:b": ["pending", "skipped"]},
            None,
            {},
            [Told(EventType.STEP_FAILED, "fetch")],
        ),
        (
            "settle",
            {"step:a": ["running", "succeeded"]},
            None,
            {"opened": {"each[0].ok": {"state": "open"}, "done": {"state": "approved"}}},
            [Told(EventType.GATE_OPENED, "ok")],
        ),
        ("decide", {}, None, {"gate": "approval"}, []),  # more must approve
        (
            "decide",
            {"step:g": ["held", "failed"]},
            {"code": "rejected"},
            {"gate": "approval"},
            [Told(EventType.STEP_FAILED, "g"), Told(EventType.GATE_DECIDED, "g")],
        ),
        ("create_key", {}, None, {"role": "admin"}, []),
    ],
)
def test_an_event_tells_what_it_says(
    action: str, moved: dict[str, Any], reason: dict[str, Any] | None, facts: dict[str, Any], told: list[Told]
) -> None:
    assert list(told_by(action, moved, reason, facts)) == told


def test_tries_end_after_about_a_day() -> None:
    waits = [wait_seconds(tries, None, 0) for tries in range(1, len(RETRY_SECONDS) + 2)]

    assert waits == [*RETRY_SECONDS, None]
    assert 20 * 3600 < sum(RETRY_SECONDS) < 28 * 3600
    assert wait_seconds(1, None, 1) == pytest.approx(5.5)


@given(some.integers(1, len(RETRY_SECONDS)), some.floats(0, 1e12), some.floats(-1, 1))
def test_whoever_asks_for_more_time_has_it_up_to_a_day(tries: int, retry_after: float, jitter: float) -> None:
    waited = wait_seconds(tries, retry_after, jitter)

    assert waited is not None
    assert waited >= min(retry_after, 86_400)
    assert waited <= max(86_400, RETRY_SECONDS[tries - 1] * 1.1)


def test_only_what_was_asked_for_is_wanted() -> None:
    at = datetime(2026, 11, 22, tzinfo=UTC)
    every = Webhook("1", "a", "https://x/", (EventType.RUN_FAILED,), None, None, at, "me")
    ours = Webhook("2", "b", "https://x/", (EventType.RUN_FAILED,), "ours", "nightly", at, "me")

    assert every.wants(EventType.RUN_FAILED, "any", "any")
    assert not every.wants(EventType.RUN_COMPLETED, "any", "any")
    assert ours.wants(EventType.RUN_FAILED, "ours", "nightly")
    assert not ours.wants(EventType.RUN_FAILED, "theirs", "nightly")
    assert not ours.wants(EventType.RUN_FAILED, "ours", "daily")
    assert not ours.wants(EventType.RUN_FAILED, None, None)


def test_of_an_address_only_the_origin_is_told() -> None:
    assert origin_of("https://example.org:8443/services/T0/s3cret?x=y") == "https://example.org:8443/"
    assert origin_of("http://[2001:db8::1]?token=s3cret") == "http://[2001:db8::1]/"


def test_a_secret_depends_on_the_audit_key_the_webhook_and_its_salt() -> None:
    made = {
        key_of(audit, webhook, salt) for audit in (b"a" * 32, b"b" * 32) for webhook in "12" for salt in (b"x", b"y")
    }

    assert len(made) == 8
    assert {len(each) for each in made} == {32}


def test_the_snippet_of_the_howto_takes_true_messages_only() -> None:
    [snippet] = re.findall(r"```python\n(.*?)```", HOWTO.read_text(encoding="utf-8"), re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(snippet, HOWTO.name, "exec"), names)  # noqa: S102 - our own document
    is_genuine, body, now = names["is_genuine"], '{"type":"ping"}', int(time.time())
    new, old = (key_of(b"a" * 32, "1", salt) for salt in (b"x", b"y"))
    headers = headers_of([new, old], uuid4(), now, body)

    assert is_genuine(write_secret(new), headers, body.encode())
    assert is_genuine(write_secret(old), headers, body.encode())
    assert not is_genuine(write_secret(key_of(b"a" * 32, "2", b"x")), headers, body.encode())
    assert not is_genuine(write_secret(new), headers, body.encode() + b" ")
    assert not is_genuine(write_secret(new), headers | {"webhook-id": str(uuid4())}, body.encode())
    assert not is_genuine(write_secret(new), headers | {"webhook-timestamp": str(now - 1)}, body.encode())
    late = headers_of([new], uuid4(), now - 301, body)
    assert not is_genuine(write_secret(new), late, body.encode())


def test_the_howto_and_the_schema_name_all_that_is_told() -> None:
    howto = HOWTO.read_text(encoding="utf-8")

    assert [each for each in SUBSCRIBABLE if f"`{each}`" not in howto] == []
    assert set(read("webhook-event")["properties"]["type"]["enum"]) == set(EventType)
