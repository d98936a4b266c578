"""The streams: what a listener is told is what happened, wherever he came in and whatever broke on the way."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import httpx2
import pytest
from sqlalchemy import Connection, text

from agentflow.client import feed as feeding
from agentflow.domain.ids import RunId
from agentflow.runtime import Runtime
from tests.factories import work_off
from tests.integration.api.conftest import Api
from tests.integration.api.listening import listen

Opened = Callable[..., httpx2.Client]
GATED = {"agentflow": 1, "name": "gated", "steps": [{"id": "g", "wait": {"event": "go"}}]}
_SALT = itertools.count()
SHORT = {"agentflow": 1, "name": "short", "steps": [{"id": "a", "noop": {}}]}


def test_a_run_is_told_from_its_first_event_to_its_last(house: Runtime, api: Api, opened: Opened) -> None:
    client = opened("operator")
    run = client.post("/runs", json={"plan": SHORT}).json()["id"]

    with listen(client, f"/runs/{run}/events") as heard:
        first = next(heard)
        work_off(house, RunId(api.flow.get(run).uuid))
        rest = list(heard)

    listed = [(one.id, one.as_json()) for one in api.flow.get(run).events()]
    assert [(int(one.id), one.data) for one in (first, *rest[:-1])] == listed
    assert (rest[-1].event, rest[-1].data) == ("end", {"why": "run_ended"})
    again = client.get(f"/runs/{run}/events", headers={"Accept": "text/event-stream", "Last-Event-ID": rest[-1].id})
    assert again.status_code == 204


def insert(connection: Connection, run: str) -> int:
    """Write an event past the engine, in whatever transaction."""
    return int(
        connection.execute(
            text(
                "INSERT INTO audit_event (run_id, sequence, at, actor, action, subject, moved, facts, mac) VALUES "
                "(:run, (SELECT 1000 + count(*) + :salt FROM audit_event), now(), 'me', 'note', 'run', '{}', '{}', '') "
                "RETURNING id"
            ),
            {"run": run, "salt": next(_SALT)},
        ).scalar_one()
    )


def test_of_two_transactions_the_one_that_began_first_is_not_passed_by(
    house: Runtime, api: Api, opened: Opened
) -> None:
    """The ids are taken in one order and committed in the other, under a client's feed and under a stream."""
    client, engine = opened("operator"), house.context.database.engine
    run = client.post("/runs", json={"plan": GATED}).json()["id"]
    feed = api.flow.event_feed(api.flow.get(run))
    assert [one.action for one in feed.take()] == ["submit"]

    with listen(client, "/events") as heard, engine.connect() as first, engine.connect() as second:
        next(heard)
        lower, higher = insert(first, run), insert(second, run)
        second.commit()
        assert feed.take() == []
        third = insert(second, run)
        second.commit()
        assert feed.take() == []
        first.commit()

        told = [int(next(each for each in heard if each.event == "event").id) for _ in range(3)]

    taken = feed.take() or feed.take()
    assert lower < higher
    assert [one.id for one in taken] == told == [lower, higher, third]


def test_a_page_of_a_run_that_goes_on_ends_where_no_event_can_appear_below(
    house: Runtime, api: Api, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who goes on behind such a page, of events or of logs, would never hear of what was committed late."""
    monkeypatch.setattr(feeding, "LONGEST_SETTLING_SECONDS", 0.2)
    client, engine = opened("operator"), house.context.database.engine
    run = client.post("/runs", json={"plan": GATED}).json()["id"]
    with engine.connect() as first, engine.begin() as second:
        for writer in (first, second, second):
            insert(writer, run)
        second.commit()

        cut = client.get(f"/runs/{run}/events", params={"limit": 2})
        logs = client.get(f"/runs/{run}/logs")
        whole = client.get(f"/runs/{run}/events").json()["events"]
        first.commit()

    assert [(answer.status_code, answer.json()["code"]) for answer in (cut, logs)] == [(503, "conflict")] * 2
    page = client.get(f"/runs/{run}/events", params={"limit": 2}).json()
    behind = client.get(f"/runs/{run}/events", params={"limit": 2, "cursor": page["next_cursor"]}).json()
    listed = [each.as_json() for each in api.flow.get(run).events()]
    assert page["events"] + behind["events"] == listed
    assert whole == [listed[0], *listed[2:]]
    assert behind["next_cursor"] is None
    assert client.get(f"/runs/{run}/logs").json()["chunks"] == []


def test_a_transaction_that_wrote_no_event_holds_nothing_up(house: Runtime, api: Api, opened: Opened) -> None:
    run = opened("operator").post("/runs", json={"plan": GATED}).json()["id"]
    feed = api.flow.event_feed(api.flow.get(run))

    with house.context.database.engine.connect() as other:
        other.execute(text("UPDATE run_state SET rested_seconds = 0 WHERE run_id = :run"), {"run": run})

        assert [one.action for one in feed.take()] == ["submit"]
