"""Idempotency-Key: what is asked for twice is done once, at the same moment too, and the answer is given again."""

from __future__ import annotations

from collections.abc import Callable
from threading import Barrier, Thread
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from agentflow.domain.error import NotFound, RequestConflict, ServersUnreachable
from agentflow.engine.pause import pause
from agentflow.engine.reply_once import reply_once
from agentflow.runtime import Runtime
from agentflow.storage.database import ConflictingWrite
from agentflow.storage.replies import Asked, Reply
from tests.factories import submitted
from tests.integration.api.conftest import TLS, Api

Opened = Callable[..., httpx2.Client]
NOOP = {"agentflow": 1, "name": "once", "steps": [{"id": "a", "noop": {}}]}
WAITS = {"agentflow": 1, "name": "waits", "budget": {"tokens": 10}, "steps": [{"id": "w", "wait": {"event": "go"}}]}


def _headers(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key}


def test_what_is_asked_for_again_is_answered_again(api: Api, opened: Opened) -> None:
    client = opened("operator")
    client.post("/plans", json={"plan": NOOP})
    run = client.post("/runs", json={"plan": WAITS}).json()["id"]
    calls: list[tuple[str, dict[str, Any] | None]] = [
        ("/plans", {"plan": WAITS}),
        ("/schedules", {"name": "s", "plan": "once", "every": "1h"}),
        ("/schedules/s/run-now", None),
        ("/schedules/s/backfill", {"since": "2025-01-01T00:00", "until": "2025-01-01T06:00", "dry_run": True}),
        ("/dead-letters/replay", {"all": True}),
        (f"/runs/{run}/budget", {"tokens": 5}),
        (f"/runs/{run}/signal", {"name": "go"}),
    ]

    for number, (path, body) in enumerate(calls):
        first, again = (client.post(path, json=body, headers=_headers(f"k{number}")) for _ in range(2))
        assert first.is_success, first.text
        assert "Idempotency-Replayed" not in first.headers
        assert (again.status_code, again.content) == (first.status_code, first.content), path
        assert again.headers["Idempotency-Replayed"] == "true"
        assert again.headers.get("Location") == first.headers.get("Location")

    assert client.get(f"/runs/{run}/budget").json()["scopes"][0]["budgets"][0]["limit"] == 15
    assert len(client.get("/schedules/s/firings").json()["firings"]) == 1


def test_a_key_stands_for_one_request_of_one_caller(opened: Opened) -> None:
    client, other = opened("operator"), opened("operator")
    first = client.post("/plans", json={"plan": NOOP}, headers=_headers("k"))

    refused = client.post("/plans", json={"plan": WAITS}, headers=_headers("k"))
    theirs = other.post("/plans", json={"plan": WAITS}, headers=_headers("k"))

    assert first.status_code == 201
    assert (refused.status_code, refused.json()["code"]) == (409, "idempotency_conflict")
    assert theirs.status_code == 201
    assert client.post("/plans", json={"plan": NOOP}, headers=_headers("k" * 201)).json()["code"] == "usage"


def test_a_run_that_was_made_before_says_so(opened: Opened) -> None:
    client = opened("operator")
    made = [client.post("/runs", json={"plan": NOOP}, headers=_headers("k")) for _ in range(2)]
    fork = {"from_step": "a"}
    path = f"/runs/{made[0].json()['id']}/fork"
    made += [client.post(path, json=fork, headers=_headers("f")) for _ in range(2)]

    assert [each.status_code for each in made] == [201, 200, 201, 200]
    assert [each.headers.get("Idempotency-Replayed") for each in made] == [None, "true", None, "true"]
    assert made[2].json()["id"] == made[3].json()["id"]


def test_of_two_at_once_one_is_done(api: Api, opened: Opened) -> None:
    client = opened("operator")
    run = client.post("/runs", json={"plan": WAITS}).json()["id"]
    together, answers = Barrier(6), []

    def ask() -> None:
        with httpx2.Client(base_url=client.base_url, headers=client.headers, timeout=30, verify=TLS) as own:
            together.wait(30)
            answers.append(own.post(f"/runs/{run}/budget", json={"tokens": 5}, headers=_headers("k")))

    threads = [Thread(target=ask) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert len(answers) == 6
    assert {each.status_code for each in answers} <= {200, 409}
    assert sum(each.status_code == 200 and "Idempotency-Replayed" not in each.headers for each in answers) == 1
    assert client.get(f"/runs/{run}/budget").json()["scopes"][0]["budgets"][0]["limit"] == 15


def test_the_secret_of_a_key_is_kept_nowhere(api: Api, opened: Opened) -> None:
    admin = opened("admin")
    wanted = {"name": "ci", "role": "viewer"}
    made = admin.post("/keys", json=wanted, headers=_headers("k"))

    again = admin.post("/keys", json=wanted, headers=_headers("k"))

    assert made.status_code == 201
    assert (again.status_code, again.json()["code"]) == (409, "idempotency_conflict")
    assert "revoke" in again.json()["detail"]
    with api.flow.context.database.transaction() as tx:
        rows = str(tx.execute(text("SELECT * FROM api_reply")).all())
    assert made.json()["key"] not in rows
    assert made.json()["key"].split("_", 2)[2] not in rows


def test_what_was_refused_may_be_asked_for_again(opened: Opened) -> None:
    client = opened("operator")
    schedule = {"name": "s", "plan": "once", "every": "1h"}
    refused = client.post("/schedules", json=schedule, headers=_headers("k"))
    client.post("/plans", json={"plan": NOOP})

    kept = client.post("/schedules", json=schedule, headers=_headers("k"))

    assert (refused.status_code, kept.status_code) == (400, 201)


@pytest.fixture
def asked(house: Runtime, api: Api) -> Asked:
    """A request under the key ``k`` of a caller."""
    return Asked(api.flow.create_key("one", "viewer").key.public_id, "k", b"\0" * 32)


def test_what_broke_off_is_not_done_again(house: Runtime, asked: Asked) -> None:
    """Whether it was done nobody can tell."""

    def break_off() -> Reply:
        raise ServersUnreachable("Postgres does not answer")

    with pytest.raises(ServersUnreachable):
        reply_once(house.context, asked, break_off)

    with pytest.raises(RequestConflict, match="no answer yet"):
        reply_once(house.context, asked, lambda: Reply(200, None, "{}"))


def test_an_answer_is_kept_for_a_day(house: Runtime, asked: Asked) -> None:
    done: list[int] = []

    def do() -> Reply:
        done.append(1)
        return Reply(201, "/x", "{}")

    def age(hours: int) -> None:
        with house.context.database.transaction() as tx:
            tx.execute(text("UPDATE api_reply SET begun_at = begun_at - make_interval(hours => :h)"), {"h": hours})

    assert reply_once(house.context, asked, do) is None
    age(23)
    assert reply_once(house.context, asked, do) == Reply(201, "/x", "{}")
    age(2)
    other = Asked(asked.public_id, "other", asked.request_sha256)
    with pytest.raises(NotFound):
        reply_once(house.context, other, _refuse)
    with house.context.database.transaction() as tx:
        assert tx.execute(text("SELECT count(*) FROM api_reply")).scalar_one() == 0
    assert reply_once(house.context, asked, do) is None
    assert len(done) == 2


def _refuse() -> Reply:
    raise NotFound("There is none.")


def test_what_postgres_broke_off_before_anything_was_done_may_be_asked_for_again(house: Runtime, asked: Asked) -> None:
    def break_off() -> Reply:
        raise ConflictingWrite("deadlock detected")

    with pytest.raises(ConflictingWrite):
        reply_once(house.context, asked, break_off)

    assert reply_once(house.context, asked, lambda: Reply(200, None, "{}")) is None


def test_what_was_refused_after_something_was_done_is_not_done_again(house: Runtime, asked: Asked) -> None:
    run_id = submitted(house.context, [{"id": "w", "wait": {"event": "go"}}])

    def do_half() -> Reply:
        pause(house.context, run_id, "ana")
        raise NotFound("There is none of the rest.")

    with pytest.raises(NotFound):
        reply_once(house.context, asked, do_half)

    with pytest.raises(RequestConflict, match="no answer yet"):
        reply_once(house.context, asked, do_half)
