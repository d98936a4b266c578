"""One verb on many runs: whom a filter means, what became of each, and that a look alone does nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from sqlalchemy import Engine, event, text

from agentflow.api import bulk
from agentflow.client import bulk as client_bulk
from tests.integration.api.conftest import Api

Opened = Callable[..., httpx2.Client]


WAITS = [{"id": "w", "wait": {"event": "go"}}]


def _made(client: httpx2.Client, name: str, project: str = "default", steps: list[dict[str, Any]] = WAITS) -> str:
    plan = {"agentflow": 1, "name": name, "steps": steps}
    run: str = client.post("/runs", json={"plan": plan, "project": project}).json()["id"]
    return run


def test_a_filter_means_the_runs_that_it_names(api: Api, opened: Opened) -> None:
    client = opened("operator")
    old, young, other = _made(client, "night"), _made(client, "night"), _made(client, "day")
    elsewhere = _made(client, "night", "ops")
    with api.flow.context.database.transaction() as tx:
        tx.execute(text("UPDATE run SET created_at = created_at - interval '3 hours' WHERE id = :id"), {"id": old})

    def ids(answer: httpx2.Response) -> set[str]:
        return {run["id"] for run in answer.json()["runs"]}

    looked = client.post("/runs/cancel", json={"name": "night", "dry_run": True})
    assert ids(looked) == {old, young, elsewhere}
    assert {client.get(f"/runs/{run}").json()["state"] for run in (old, young)} == {"waiting"}

    assert ids(client.post("/runs/cancel", json={"older_than": "2h"})) == {old}
    paused = client.post("/runs/pause", json={"name": "night", "project": "default", "why": "lunch"})
    assert (ids(paused), paused.json()["outcomes"]) == ({young}, {"done": 1})
    assert ids(client.post("/runs/resume", json={"state": "paused"})) == {young}
    assert ids(opened("operator", project="ops").post("/runs/cancel", json={"all": True})) == {elsewhere}
    refused = client.post("/runs/retry", json={"state": "waiting"})
    assert refused.json()["outcomes"] == {"refused": 2}
    assert {run["outcome"] for run in refused.json()["runs"]} == {"refused"}
    one = client.post("/runs/cancel", json={"all": True, "limit": 1}).json()
    assert (one["meant"], [run["id"] for run in one["runs"]]) == (2, [other])
    assert client.get(f"/runs/{young}").json()["state"] == "waiting"


@pytest.fixture
def pages() -> Iterator[list[str]]:
    """The pages of runs that are read."""
    read: list[str] = []

    def note(*given: Any) -> None:
        if given[2].startswith("-- A page of runs"):
            read.append(given[2])

    event.listen(Engine, "before_cursor_execute", note)
    yield read
    event.remove(Engine, "before_cursor_execute", note)


def test_no_more_runs_are_read_than_are_counted(
    opened: Opened, monkeypatch: pytest.MonkeyPatch, pages: list[str]
) -> None:
    monkeypatch.setattr(bulk, "COUNTED", 2)
    monkeypatch.setattr(client_bulk, "MAX_PAGE", 1)
    client = opened("operator")
    made = [_made(client, "night", steps=[{"id": "a", "noop": {}}]) for _ in range(5)]

    told = client.post("/runs/cancel", json={"state": "running", "limit": 1, "dry_run": True}).json()

    assert (told["meant"], told["has_more"], [run["id"] for run in told["runs"]]) == (2, True, [made[4]])
    assert len(pages) == 3


def test_whoever_names_no_runs_means_none(opened: Opened) -> None:
    client = opened("operator")
    for verb in ("cancel", "pause", "resume", "retry"):
        for body in ({}, {"all": True, "name": "x"}):
            refused = client.post(f"/runs/{verb}", json=body)
            assert (refused.status_code, refused.json()["code"]) == (400, "usage")
    assert client.post("/runs/cancel", json={"state": "no-such"}).json()["code"] == "usage"
    for verb, state in (("retry", "completed"), ("cancel", "failed"), ("pause", "cancelled"), ("resume", "partial")):
        never = client.post(f"/runs/{verb}", json={"state": state, "dry_run": True})
        assert (never.status_code, never.json()["code"]) == (400, "usage")
        assert f"No run that is {state} can be told to {verb}" in never.json()["detail"]
    assert client.post("/runs/cancel", json={"older_than": "soon"}).json()["code"] == "usage"
