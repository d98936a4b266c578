"""Runs over the network: from a plan to its end, page by page, and every refusal as a problem."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from agentflow.domain.ids import RunId
from agentflow.runtime import Runtime
from tests.factories import work_off
from tests.integration.api.conftest import TLS, Api

Opened = Callable[..., httpx2.Client]


def _plan(*commands: str, **fields: Any) -> dict[str, Any]:
    steps = [
        {"id": f"s{number}", "subprocess": {"command": command, "shell": True}}
        for number, command in enumerate(commands)
    ]
    return {"agentflow": 1, "name": "over-http", "steps": steps, **fields}


def test_a_run_is_submitted_worked_off_and_read(house: Runtime, api: Api, opened: Opened) -> None:
    client = opened("operator")
    plan = _plan("cat words.txt", 'echo "$AGENTFLOW_STEP_ID" > "$AGENTFLOW_ARTIFACTS/told.txt"', files=["words.txt"])

    made = client.post("/runs", json={"plan": plan, "files": {"words.txt": "brought along\n"}})
    assert (made.status_code, made.headers["Location"]) == (201, f"/api/v1/runs/{made.json()['id']}")
    work_off(house, RunId(api.flow.get(made.json()["id"]).uuid))

    shown = client.get(made.headers["Location"].removeprefix("/api/v1"))
    assert shown.json()["state"] == "completed"
    path = f"/runs/{made.json()['id']}"
    assert client.get(f"{path}/artifacts/stdout", params={"step": "s0"}).content == b"brought along\n"
    assert client.get(f"{path}/steps/s1").json()["state"] == "succeeded"
    assert client.get(f"{path}/why").json()["reason"]["code"] == "run_ended"
    assert next(event["action"] for event in client.get(f"{path}/events").json()["events"]) == "submit"
    assert client.get(f"{path}/report", params={"format": "html"}).headers["Content-Type"].startswith("text/html")
    assert client.get(f"{path}/report").json()["run"] == made.json()["id"]


def test_a_look_that_found_nothing_new_costs_no_body(opened: Opened) -> None:
    client = opened("operator")
    path = f"/runs/{client.post('/runs', json={'plan': _plan('true')}).json()['id']}"
    first = client.get(path)

    again = client.get(path, headers={"If-None-Match": first.headers["ETag"]})
    client.post(f"{path}/cancel")
    changed = client.get(path, headers={"If-None-Match": first.headers["ETag"]})

    assert (again.status_code, again.content) == (304, b"")
    assert (changed.status_code, changed.json()["state"]) == (200, "cancelled")


def test_the_same_key_is_the_same_run(opened: Opened) -> None:
    client = opened("operator")
    headers = {"Idempotency-Key": "nightly"}

    first = client.post("/runs", json={"plan": _plan("true")}, headers=headers)
    again = client.post("/runs", json={"plan": _plan("true")}, headers=headers)
    other = client.post("/runs", json={"plan": _plan("false")}, headers=headers)

    assert (first.status_code, again.status_code, again.json()["existing"]) == (201, 200, True)
    assert first.json()["id"] == again.json()["id"]
    assert (other.status_code, other.json()["code"]) == (409, "idempotency_conflict")


def test_a_plan_with_faults_is_refused_with_all_of_them(opened: Opened) -> None:
    plan = {"agentflow": 1, "name": "p", "steps": [{"id": "a", "nop": {}}, {"id": "a", "noop": {}, "needs": ["b"]}]}

    refused = opened("operator").post("/runs", json={"plan": plan})

    assert (refused.status_code, refused.headers["Content-Type"]) == (422, "application/problem+json")
    assert {fault["code"] for fault in refused.json()["faults"]} >= {"duplicate_id", "unknown_need"}
    assert refused.json()["type"] == "urn:agentflow:problem:plan_rejected"


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"/etc/passwd": "x"}, "leads out"),
        ({"../up.txt": "x"}, "leads out"),
        ({"a": "x", "a/b": "y"}, "cannot be a file"),
        ({"": "x"}, "leads out"),
    ],
)
def test_files_that_lead_elsewhere_are_refused(opened: Opened, files: dict[str, str], words: str) -> None:
    refused = opened("operator").post("/runs", json={"plan": _plan("true"), "files": files})
    assert (refused.status_code, refused.json()["code"]) == (400, "usage")
    assert words in refused.json()["detail"]


def test_no_file_of_the_servers_machine_gets_into_a_plan(opened: Opened) -> None:
    client = opened("operator")
    child = {"id": "c", "run": {"plan": "./../../etc/hostname.yaml"}}

    named = client.post("/runs", json={"plan": _plan("true", files=["/etc/hostname"])})
    run = client.post("/runs", json={"plan": _plan("true") | {"steps": [child]}})

    assert (named.status_code, run.status_code) == (422, 422)


def test_pages_of_runs_follow_one_another(opened: Opened) -> None:
    client = opened("operator")
    made = [client.post("/runs", json={"plan": _plan("true")}).json()["id"] for _ in range(5)]

    seen: list[str] = []
    cursor = None
    while True:
        page = client.get("/runs", params={"limit": 2} | ({"cursor": cursor} if cursor else {})).json()
        seen += [run["id"] for run in page["runs"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break

    assert seen == made[::-1]
    assert client.get("/runs", params={"state": "no-such"}).json()["code"] == "usage"
    assert client.get("/runs", params={"limit": 0}).json()["faults"][0]["field"] == "query.limit"


def test_the_verbs_answer_with_what_they_did(opened: Opened) -> None:
    client = opened("operator")
    gate = {"id": "g", "approval": {"message": "go on?", "allow_self": True}}
    held = _plan("true") | {"steps": [gate, {"id": "w", "wait": {"event": "go"}}]}
    path = f"/runs/{client.post('/runs', json={'plan': held}).json()['id']}"

    paused = client.post(f"{path}/pause", json={"why": "lunch"})
    resumed = client.post(f"{path}/resume")
    [waiting] = client.get("/gates").json()["gates"]
    approved = client.post(f"{path}/approve", json={"step": "g"})
    twice = client.post(f"{path}/approve", json={"step": "g"})
    signalled = client.post(f"{path}/signal", json={"name": "go", "data": {"traffic": 20}})
    ended = client.post(f"{path}/cancel")

    assert (paused.status_code, paused.json()["state"], paused.json()["answer"]["is_new"]) == (202, "paused", True)
    assert resumed.json()["state"] == "waiting"
    assert waiting["step"] == "g"
    assert approved.json()["answer"]["approved_by"] == ["key:operator-0"]
    assert (twice.status_code, twice.json()["code"]) == (409, "already_decided")
    assert signalled.json()["answer"] == {"step": "w"}
    assert (ended.status_code, ended.json()["code"]) == (409, "invalid_transition")
    assert [each["state"] for each in client.get(f"{path}/gates").json()["gates"]] == ["approved"]


def test_a_stored_plan_is_pushed_and_run_by_its_name(opened: Opened) -> None:
    client = opened("operator")

    pushed = client.post("/plans", json={"plan": _plan("true")}).json()
    made = client.post("/runs", json={"plan": "over-http@1"})
    unknown = client.post("/runs", json={"plan": "over-htp"})

    assert (pushed["version"], pushed["is_new"], made.status_code) == (1, True, 201)
    assert [each["name"] for each in client.get("/plans").json()["plans"]] == ["over-http"]
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    assert "over-http" in unknown.json()["detail"]


def test_a_body_that_does_not_fit_is_told_field_by_field_and_not_repeated(opened: Opened) -> None:
    refused = opened("operator").post("/runs", json={"plan": _plan("true"), "planhash": "SENTINEL"})

    assert refused.json()["faults"] == [
        {
            "field": "body.planhash",
            "code": "extra_forbidden",
            "message": "there is no such field: did you mean 'plan_hash'?",
        }
    ]
    assert "SENTINEL" not in refused.text


def test_a_body_above_the_bound_is_refused(opened: Opened) -> None:
    client = opened("operator")

    def much() -> Any:
        for _ in range(17):
            yield b" " * (1 << 20)

    told = client.post("/runs", content=b" " * (17 << 20))
    untold = client.post("/runs", content=much())

    assert (told.status_code, untold.status_code) == (413, 413)
    assert told.json()["code"] == "too_large"


def test_every_answer_is_careful_with_browsers(opened: Opened, api: Api) -> None:
    for answer in (opened("viewer").get("/runs"), httpx2.get(f"{api.url}/nowhere", verify=TLS)):
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    ("path", "schema"),
    [(path, path) for path in ("workers", "queues", "limits", "dead-letters", "schedules", "gates")]
    + [("budgets", "budget")],
)
def test_what_is_beside_the_runs_is_told(opened: Opened, path: str, schema: str) -> None:
    answer = opened("viewer").get(f"/{path}")
    assert (answer.status_code, answer.json()["schema"].split("/")[0]) == (200, f"agentflow.{schema}")
