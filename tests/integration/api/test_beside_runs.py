"""What is beside the runs: schedules, plans, keys, upkeep; and that the key of one project has no part in the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import pytest
from sqlalchemy import text

from agentflow.domain.ids import RunId
from agentflow.runtime import Runtime
from agentflow.storage import step_pages
from tests.factories import work_off
from tests.integration.api.conftest import Api

Opened = Callable[..., httpx2.Client]
PLAN = {"agentflow": 1, "name": "p", "steps": [{"id": "a", "noop": {}}, {"id": "b", "noop": {}}]}


def test_a_schedule_is_kept_fired_stopped_and_forgotten(opened: Opened) -> None:
    client = opened("operator")
    client.post("/plans", json={"plan": PLAN})
    wanted = {"name": "nightly", "plan": "p", "cron": "0 6 * * *", "time_zone": "Europe/Berlin"}

    examined = client.post("/schedules", json=wanted | {"dry_run": True})
    assert (examined.status_code, client.get("/schedules").json()["schedules"]) == (200, [])
    made = client.post("/schedules", json=wanted)
    assert (made.status_code, made.headers["Location"]) == (201, "/api/v1/schedules/nightly")
    assert client.post("/schedules", json=wanted).json()["code"] == "usage"
    both = client.post("/schedules", json=wanted | {"name": "x", "every": "1h", "overlap": "never"})
    assert {each["field"] for each in both.json()["details"]["problems"]} >= {"overlap"}

    fired = client.post("/schedules/nightly/run-now")
    assert fired.status_code == 202
    firings = client.get("/schedules/nightly/firings").json()["firings"]
    assert [firing["cause"] for firing in firings] == ["run_now"]
    past = {"since": "2026-01-01T00:00", "until": "2026-01-03T00:00", "dry_run": True}
    looked = client.post("/schedules/nightly/backfill", json=past)
    assert (looked.status_code, len(looked.json()["queued"])) == (200, 2)
    assert client.post("/schedules/nightly/pause").json()["is_changed"] is True
    assert client.get("/schedules/nightly").json()["is_enabled"] is False
    assert client.post("/schedules/nightly/resume").json()["is_changed"] is True
    assert client.delete("/schedules/nightly").json()["is_changed"] is True
    assert client.get("/schedules/nightly").status_code == 404


def test_a_plan_is_judged_stored_shown_and_run_again_from_a_step(house: Runtime, api: Api, opened: Opened) -> None:
    client = opened("operator")
    judged = opened("viewer").post("/plans/check", json={"plan": PLAN | {"steps": [{"id": "a", "nop": {}}]}})
    assert (judged.status_code, judged.json()["code"]) == (422, "plan_rejected")
    versions = [client.post("/plans", json={"plan": PLAN | {"vars": {"v": {"default": n}}}}) for n in range(3)]
    again = client.post("/plans", json={"plan": PLAN | {"vars": {"v": {"default": 2}}}})
    assert [each.status_code for each in (*versions, again)] == [201, 201, 201, 200]
    first = client.get("/plans", params={"limit": 2}).json()
    rest = client.get("/plans", params={"limit": 2, "cursor": first["next_cursor"]}).json()
    assert [each["version"] for each in first["plans"] + rest["plans"]] == [3, 2, 1]
    assert rest["next_cursor"] is None
    assert client.get("/plans", params={"cursor": "x"}).json()["code"] == "usage"
    assert client.get("/plans/p@1").json()["plan"]["vars"]["v"]["default"] == 0
    assert client.get("/plans/p/graph").json()["levels"] == [["a"], ["b"]]

    dry = client.post("/runs/check", json={"plan": "p@1", "vars": {"v": 7}}).json()
    assert (dry["vars"], len(api.flow.runs())) == ({"v": 7}, 0)
    run = client.post("/runs", json={"plan": "p@1"}).json()["id"]
    work_off(house, RunId(api.flow.get(run).uuid))
    edited = {**PLAN, "steps": [*PLAN["steps"], {"id": "c", "noop": {}}]}  # type: ignore[misc] # a list, as JSON is
    forked = client.post(f"/runs/{run}/fork", json={"from_step": "b", "plan": edited}).json()
    assert forked["reused"] == ["a"]
    assert client.get(f"/runs/{run}/lineage").json()["forks"] == [forked["id"]]
    assert client.get(f"/runs/{run}/diff/{forked['id']}").json()["plan"]["added"] == ["c"]
    steps = client.get(f"/runs/{run}/steps", params={"limit": 1}).json()
    after = client.get(f"/runs/{run}/steps", params={"limit": 1, "cursor": steps["next_cursor"]}).json()
    assert [each["id"] for each in steps["steps"] + after["steps"]] == ["a", "b"]
    assert len(client.get(f"/runs/{run}/steps/a/attempts").json()["attempts"]) == 1
    whole = client.get(f"/runs/{run}/events").json()["events"]
    parts = client.get(f"/runs/{run}/events", params={"limit": 3}).json()
    more = client.get(f"/runs/{run}/events", params={"cursor": parts["next_cursor"]}).json()
    assert parts["events"] + more["events"] == whole
    assert client.get(f"/runs/{run}/verify").json()["is_intact"] is True


def test_the_key_of_one_project_has_no_part_in_what_concerns_all(opened: Opened) -> None:
    everywhere, ours = opened("admin"), opened("admin", project="ours")
    for method, path, body in (
        ("GET", "/audit/events", None),
        ("POST", "/audit/verify", None),
        ("GET", "/audit/checkpoints", None),
        ("POST", "/maintenance/pause", {}),
        ("POST", "/maintenance/resume", None),
        ("GET", "/retention?older_than=30d", None),
        ("POST", "/retention/prune", {"older_than": "30d"}),
    ):
        refused = ours.request(method, path, json=body)
        assert (refused.status_code, refused.json()["code"]) == (403, "not_allowed"), path
    assert everywhere.get("/maintenance").json()["stands"] is False

    assert ours.post("/keys", json={"name": "a", "role": "admin", "project": "theirs"}).status_code == 403
    made = ours.post("/keys", json={"name": "a", "role": "viewer", "expires": "1d"}).json()
    assert (made["project"], made["state"]) == ("ours", "valid")
    assert {key["name"] for key in ours.get("/keys").json()["keys"]} == {"a", "admin-1"}
    assert {key["name"] for key in everywhere.get("/keys").json()["keys"]} == {"a", "admin-0", "admin-1"}
    assert ours.delete("/keys/admin-0").status_code == 404
    assert ours.delete("/keys/a").json()["state"] == "revoked"
    assert ours.delete("/keys/a").status_code == 404


def test_everything_rests_and_goes_on(opened: Opened) -> None:
    admin = opened("admin")
    waits = {"agentflow": 1, "name": "w", "steps": [{"id": "w", "wait": {"event": "go"}}]}
    run = admin.post("/runs", json={"plan": waits}).json()["id"]

    begun = admin.post("/maintenance/pause", json={"why": "a new disk"})
    later = admin.post("/runs", json={"plan": waits}).json()
    told = admin.get("/maintenance").json()
    ended = admin.post("/maintenance/resume")

    assert (begun.status_code, begun.json()["paused"], begun.headers["Location"]) == (202, 1, "/api/v1/maintenance")
    assert (told["stands"], told["reason"]["why"]) == (True, "a new disk")
    assert later["state"] == "paused"
    assert (ended.json()["resumed"], admin.get(f"/runs/{run}").json()["state"]) == (2, "waiting")
    actions = [event["action"] for event in admin.get("/audit/events").json()["events"]]
    assert actions[-2:] == ["pause_all", "resume_all"]
    dry = admin.post("/retention/prune", json={"older_than": "2d", "dry_run": True}).json()
    assert (dry["is_dry_run"], dry["runs"]) == (True, 0)


def test_a_page_of_steps_is_of_one_moment_while_items_are_made(
    house: Runtime, opened: Opened, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = opened("operator")
    run = client.post("/runs", json={"plan": PLAN}).json()["id"]
    read, made = step_pages.read_places, [run]

    def read_and_make(*given: Any) -> Any:
        """Make an item that a step on the page needs, once it is known where all stand."""
        places = read(*given)
        with house.context.database.transaction() as tx:
            tx.execute(
                text(
                    "WITH item AS (INSERT INTO step SELECT (jsonb_populate_record(step, jsonb_build_object("
                    "'id', gen_random_uuid(), 'key', 'item', 'position', 9))).* FROM step WHERE run_id = :run "
                    "AND key = 'a' RETURNING id) INSERT INTO edge (from_step, to_step) "
                    "SELECT item.id, step.id FROM item, step WHERE run_id = :run AND key = 'b'"
                ),
                {"run": made.pop()},
            )
        return places

    monkeypatch.setattr(step_pages, "read_places", read_and_make)
    shown = client.get(f"/runs/{run}/steps")

    assert (shown.status_code, made) == (200, [])
    assert [each["id"] for each in shown.json()["steps"]] == ["a", "b"]
