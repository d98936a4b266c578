"""Many listeners, slow ones, and those whose key ends: each costs the database nothing and holds nobody up."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx2
import pytest
from sqlalchemy import Engine, event, text

from agentflow import AgentFlow
from agentflow.api import live_hub, live_streams
from agentflow.api.app import make_app
from agentflow.api.live_hub import Hub, Wish
from agentflow.api.live_streams import EventStream, events_to
from agentflow.runtime import Runtime
from agentflow.storage import database
from agentflow.storage.database import statement
from tests.integration.api.conftest import TLS, Api
from tests.integration.api.listening import Heard, listen
from tests.integration.api.test_live import GATED, insert

Opened = Callable[..., httpx2.Client]
LISTENERS = 200
OF_THE_HUB = ("view_newest_event", "view_event_writers", "view_feed", "find_valid_keys", "measure_attempts")
NOBODY = "00000000-0000-0000-0000-00000000aaaa"


@contextmanager
def _counted() -> Iterator[Counter[str]]:
    """Count the statements of this process by the file that they are from."""
    counts: Counter[str] = Counter()
    names = {_bare(statement(name).text): name for name in OF_THE_HUB}

    def count(_connection: Any, _cursor: Any, said: str, *_rest: Any) -> None:
        counts[names.get(_bare(said), "other")] += 1

    event.listen(Engine, "before_cursor_execute", count)
    try:
        yield counts
    finally:
        event.remove(Engine, "before_cursor_execute", count)


@contextmanager
def _counted_projects() -> Iterator[set[str]]:
    """Note of which projects attempts are counted."""
    asked, counts = set[str](), _bare(statement("measure_attempts").text)

    def note(_connection: Any, _cursor: Any, said: str, given: Any, *_rest: Any) -> None:
        if _bare(said) == counts:
            asked.add(given["project"])

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield asked
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def _bare(said: str) -> str:
    """A statement without what stands for its parameters, which the driver writes in another way."""
    return "".join(each for each in said.partition("FROM")[0] if each.isalpha())


def _first_event(heard: Iterator[Heard]) -> str:
    return next(each.id for each in heard if each.event == "event")


def test_two_hundred_listeners_read_no_more_than_one(house: Runtime, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_hub, "CHORES_SECONDS", 3600.0)
    engine = house.context.database.engine
    keys = [api.flow.create_key(f"k{number}", "viewer").text for number in range(5)]
    limits = httpx2.Limits(max_connections=None)
    reads: list[int] = []
    with ExitStack() as stack:
        clients = [
            stack.enter_context(
                httpx2.Client(
                    base_url=f"{api.url}/api/v1", headers={"Authorization": f"Bearer {key}"}, limits=limits, verify=TLS
                )
            )
            for key in keys
        ]
        streams = [stack.enter_context(listen(clients[0], "/events"))]
        next(streams[0])
        for wanted in (1, LISTENERS):
            while len(streams) < wanted:
                streams.append(stack.enter_context(listen(clients[len(streams) % len(clients)], "/events")))
                next(streams[-1])
            with _counted() as counts, engine.begin() as connection:
                told = insert(connection, NOBODY)
                connection.commit()
                assert {_first_event(each) for each in streams} == {str(told)}
            reads.append(counts["view_feed"])
            assert counts["other"] == 1, counts  # the insert

    assert reads == [1, 1]


def test_a_listener_who_fell_behind_the_ring_misses_nothing(
    house: Runtime, api: Api, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_hub, "RING_EVENTS", 3)
    with listen(opened("viewer"), "/events") as heard:
        next(heard)
        with house.context.database.engine.begin() as connection:
            written = [insert(connection, NOBODY) for _ in range(20)]

        assert [int(_first_event(heard)) for _ in written] == written


def test_what_a_project_missed_is_looked_for_in_stretches_and_again_after_a_failure(
    house: Runtime, api: Api, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A project may have been quiet for millions of events; and Postgres may give a read up."""
    monkeypatch.setattr(live_hub, "_STRETCH_IDS", 5)
    monkeypatch.setattr(database, "STATEMENT_TIMEOUT_SECONDS", 1)
    engine, client = house.context.database.engine, opened("operator")
    run = client.post("/runs", json={"plan": GATED, "project": "quiet"}).json()["id"]
    has_failed, spans = threading.Event(), list[int]()

    def note(_connection: Any, _cursor: Any, said: str, given: Any, *_rest: Any) -> None:
        if _bare(said) == _bare(statement("view_feed").text) and given["project"] == "quiet":
            spans.append(given["until_id"] - given["after_id"])

    def fail(trouble: Any) -> None:
        if _bare(trouble.statement or "") == _bare(statement("view_feed").text):
            has_failed.set()

    with engine.begin() as connection:
        for _ in range(20):
            insert(connection, NOBODY)
        told = insert(connection, run)
    with listen(client, "/events") as first:
        next(first)
        with ExitStack() as stack:
            for name, listener in (("before_cursor_execute", note), ("handle_error", fail)):
                event.listen(Engine, name, listener)
                stack.callback(event.remove, Engine, name, listener)
            with engine.begin() as connection:
                connection.execute(text("LOCK TABLE audit_event IN ACCESS EXCLUSIVE MODE"))
                heard = stack.enter_context(listen(client, "/events", told - 20, project="quiet"))
                assert has_failed.wait(30)
            assert _first_event(heard) == str(told)

    assert len(spans) >= 4
    assert max(spans) == 5


def test_the_api_opens_as_many_connections_as_are_set(house: Runtime) -> None:
    settings = house.settings.model_copy(update={"api_database_connections": 3})
    with make_app(settings).state.house.flow as flow:
        assert flow.context.database.engine.pool.size() == 3


def test_one_key_leaves_places_for_others(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_hub, "MOST_OF_KEY", 1)
    client, other = opened("viewer"), opened("viewer")
    with listen(client, "/events") as heard, listen(other, "/events") as of_another:
        next(heard), next(of_another)

        refused = client.get("/events", headers={"Accept": "text/event-stream"})

    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")


def test_figures_are_told_of_the_projects_that_most_listen_to(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any name may be asked for, and each costs a reading of the newest events."""
    monkeypatch.setattr(live_hub, "MOST_PROJECTS", 1)
    monkeypatch.setattr(live_hub, "CHORES_SECONDS", 0.1)
    client = opened("viewer")
    with listen(client, "/events", project="a") as first, listen(client, "/events", project="a"):
        next(first)
        with listen(client, "/events", project="b"), _counted_projects() as asked:
            heard = [next(first).data["project"] for _ in range(3)]

    assert set(heard) == asked == {"a"}


def test_a_listener_who_takes_nothing_is_cut_off(house: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """What he has not taken he finds by his last id; until then he holds neither memory nor a place."""
    monkeypatch.setattr(live_streams, "SLOW_SECONDS", 0.2)
    with AgentFlow(house.settings) as flow:
        key = flow.create_key("me", "viewer").key
        asyncio.run(asyncio.wait_for(_stream_to_nobody(Hub(flow), key), 30))


async def _stream_to_nobody(hub: Hub, key: Any) -> None:
    began = asyncio.Event()

    async def send(message: Any) -> None:
        began.set()
        if message["type"] == "http.response.body":
            await asyncio.Event().wait()

    async def receive() -> Any:
        await asyncio.Event().wait()

    stream = EventStream(events_to(hub, key, Wish(), 0, None), hub)
    await stream({"type": "http", "method": "GET", "path": "/events"}, receive, send)
    assert began.is_set()
    assert hub.listeners == 0


def test_a_stream_ends_with_its_key(api: Api, opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_hub, "CHORES_SECONDS", 0.1)
    client, other = opened("viewer"), opened("viewer")
    with listen(client, "/events") as heard, listen(other, "/events") as stays:
        next(heard)
        api.flow.revoke_key("viewer-0")

        assert list(heard)[-1].data == {"why": "key_ended"}
        assert next(stays).event == "kpi"


def test_a_key_of_a_project_hears_of_that_project_only(api: Api, opened: Opened) -> None:
    ours, all_of_them = opened("operator", project="ours"), opened("operator")
    with listen(ours, "/events") as heard:
        kpi = next(heard)
        theirs = all_of_them.post("/runs", json={"plan": GATED, "project": "theirs"}).json()["id"]
        api.flow.create_key("another", "viewer")
        run = ours.post("/runs", json={"plan": GATED}).json()["id"]

        assert next(each.data["run"] for each in heard if each.event == "event") == run
    assert kpi.data["project"] == "ours"
    refused = ours.get(f"/runs/{theirs}/events", headers={"Accept": "text/event-stream"})
    assert refused.status_code == 404


def test_a_place_that_is_none_and_who_asks_for_no_stream_are_refused(opened: Opened) -> None:
    client = opened("viewer")

    wrong = client.get("/events", headers={"Accept": "text/event-stream", "Last-Event-ID": "x"})
    unasked = client.get("/events")

    assert (wrong.status_code, wrong.json()["code"]) == (400, "usage")
    assert (unasked.status_code, unasked.json()["code"]) == (406, "not_acceptable")
