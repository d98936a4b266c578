"""A schedule is replaced by PUT: as it was seen, or where there is none, also where several do at the same moment."""

from __future__ import annotations

from collections.abc import Callable
from threading import Barrier, Thread
from typing import Any

import httpx2
import pytest

from tests.integration.api.conftest import BASE

Opened = Callable[..., httpx2.Client]
WANTED: dict[str, Any] = {"plan": "p", "cron": "0 6 * * *"}
PLAN = {"agentflow": 1, "name": "p", "steps": [{"id": "a", "noop": {}}]}


@pytest.fixture
def client(opened: Opened) -> httpx2.Client:
    """An operator, with a stored plan."""
    operator = opened("operator")
    operator.post("/plans", json={"plan": PLAN}).raise_for_status()
    return operator


def test_a_body_is_told_all_that_is_wrong_with_it_at_once(client: httpx2.Client) -> None:
    problem = client.put("/schedules/s", json=WANTED | {"crn": "@daily", "every": "1h", "start": "nope"}).json()

    assert problem["code"] == "misfit"
    assert sorted(fault["field"] for fault in problem["faults"]) == ["body", "body.crn", "body.start"]


def test_a_schedule_is_made_and_replaced_at_its_address(client: httpx2.Client) -> None:
    made = client.put("/schedules/s", json=WANTED)
    again = client.put("/schedules/s", json=WANTED)
    other = client.put("/schedules/s", json=WANTED | {"cron": "30 7 * * *", "overlap": "queue"})
    shown = client.get("/schedules/s")

    assert (made.status_code, made.headers["Location"]) == (201, f"{BASE}/schedules/s")
    assert (again.status_code, again.headers["ETag"]) == (200, made.headers["ETag"])
    assert (other.status_code, other.headers["ETag"]) == (200, shown.headers["ETag"])
    assert made.headers["ETag"] != shown.headers["ETag"]
    assert (shown.json()["timing"]["cron"], shown.json()["overlap"]) == ("30 7 * * *", "queue")
    assert (shown.json()["id"], shown.json()["is_enabled"]) == (made.json()["id"], True)


def test_it_is_replaced_only_as_it_was_seen(client: httpx2.Client) -> None:
    def put(**headers: str) -> int:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        cron = f"{len(seen)} 7 * * *"
        seen.append(client.put("/schedules/s", json=WANTED | {"cron": cron}, headers=named))
        return seen[-1].status_code

    seen: list[httpx2.Response] = []
    assert put(If_Match="*") == 412
    assert put(If_Match='"old"') == 412
    assert client.get("/schedules/s").status_code == 404
    assert put(If_None_Match="*") == 201
    assert put(If_None_Match="*") == 412
    tag = client.get("/schedules/s").headers["ETag"]
    assert seen[-1].json()["details"]["etag"] == tag
    assert put(If_Match=tag) == 200
    assert put(If_Match=tag) == 412
    assert put(If_Match="*") == 200
    assert put(If_None_Match='"a"') == 422


def test_another_of_its_name_is_not_the_one_that_was_seen(client: httpx2.Client) -> None:
    tag = client.put("/schedules/s", json=WANTED).headers["ETag"]
    client.delete("/schedules/s").raise_for_status()
    client.put("/schedules/s", json=WANTED).raise_for_status()

    assert client.put("/schedules/s", json=WANTED, headers={"If-Match": tag}).status_code == 412


@pytest.mark.parametrize("header", ["If-Match", "If-None-Match"])
def test_of_many_who_saw_the_same_one_replaces(opened: Opened, client: httpx2.Client, header: str) -> None:
    given = "*"
    if header == "If-Match":
        given = client.put("/schedules/s", json=WANTED).headers["ETag"]
    callers, together, answers = [opened("operator") for _ in range(6)], Barrier(6), list[int]()

    def act(number: int) -> None:
        together.wait(30)
        wanted = WANTED | {"cron": f"{number} 7 * * *"}
        answers.append(callers[number].put("/schedules/s", json=wanted, headers={header: given}).status_code)

    threads = [Thread(target=act, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    assert sorted(answers) == [200 if header == "If-Match" else 201, 412, 412, 412, 412, 412]
    told = opened("admin").get("/audit/events").json()["events"]
    made = [event["action"] for event in told if event["subject"] == "schedule:default/s"]
    assert made == ["create_schedule", "replace_schedule"][: 2 if header == "If-Match" else 1]


def test_a_key_of_a_project_replaces_what_is_of_it(opened: Opened, client: httpx2.Client) -> None:
    ours = opened("operator", project="ours")
    ours.post("/plans", json={"plan": PLAN}).raise_for_status()
    theirs = client.put("/schedules/s", json=WANTED).json()

    made = ours.put("/schedules/s", json=WANTED)
    replaced = client.put("/schedules/s", json=WANTED | {"cron": "0 7 * * *"}, params={"project": "ours"})

    assert (made.status_code, made.json()["project"]) == (201, "ours")
    assert (replaced.status_code, replaced.json()["id"]) == (200, made.json()["id"])
    assert client.get("/schedules/s").json()["timing"] == theirs["timing"]
    assert ours.put("/schedules/s", json=WANTED | {"project": "default"}).status_code == 403
    twice = client.put("/schedules/s", json=WANTED | {"project": "default"}, params={"project": "ours"})
    assert (twice.status_code, twice.json()["code"]) == (400, "usage")
    assert opened("viewer").put("/schedules/s", json=WANTED).status_code == 403


def test_what_cannot_be_kept_leaves_what_there_is(client: httpx2.Client) -> None:
    tag = client.put("/schedules/s", json=WANTED).headers["ETag"]
    refused = client.put("/schedules/s", json={"plan": "none", "cron": "nonsense"})

    assert (refused.status_code, refused.json()["code"]) == (400, "usage")
    assert {each["field"] for each in refused.json()["details"]["problems"]} == {"plan", "cron"}
    assert client.get("/schedules/s").headers["ETag"] == tag
