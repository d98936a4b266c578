"""The founding paths: from a goal to a report in the shapes of the founding runtime, with today's keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest

from agentflow.domain.ids import RunId
from agentflow.runtime import Runtime
from tests.factories import work_off
from tests.integration.api.conftest import Api

Opened = Callable[..., httpx2.Client]
STEPS = [
    {"id": "logs", "subprocess": {"command": ["echo", "{{ vars.goal }}"]}},
    {"id": "gpu", "needs": ["logs"], "noop": {}},
]


def _plan(name: str, steps: list[dict[str, Any]]) -> dict[str, Any]:
    return {"agentflow": 1, "name": name, "vars": {"goal": {"required": True}}, "steps": steps}


@pytest.fixture
def founding(api: Api, opened: Opened) -> Iterator[httpx2.Client]:
    """A client of the founding paths, with two directives."""
    operator = opened("operator")
    gate = {"id": "g", "approval": {"message": "may it start?", "allow_self": True}}
    for name, steps in (("d1", STEPS), ("d4", [gate, {"id": "a", "needs": ["g"], "noop": {}}])):
        operator.post("/plans", json={"plan": _plan(name, steps)}).raise_for_status()
    with httpx2.Client(base_url=f"{api.url}/api/agent-runs", headers=operator.headers, timeout=30) as client:
        yield client


def test_a_goal_becomes_a_run_and_a_report(house: Runtime, api: Api, founding: httpx2.Client) -> None:
    made = founding.post("/launch/", json={"operator_goal": " Analyze logs ", "token_budget": 500})
    run = made.json()["agent_run_id"]
    work_off(house, RunId(api.flow.get(run).uuid))

    assert (made.status_code, made.json()["status"]) == (201, "pending")
    assert [(step["step_index"], step["step_type"], step["task_id"]) for step in made.json()["plan"]] == [
        (0, "task_call", "logs"),
        (1, "task_call", "gpu"),
    ]
    status = founding.post(f"/{run}/status/").json()
    assert status.pop("time_elapsed_minutes") < 60
    assert status == {
        "agent_run_id": run,
        "status": "completed",
        "current_step": 2,
        "max_steps": 10,
        "tokens_used": 0,
        "token_budget": 500,
        "is_expired": False,
    }
    full = founding.get(f"/{run}/").json()
    assert (full["operator_goal"], full["time_budget_minutes"], full["error_message"]) == ("Analyze logs", 60, "")
    assert [(step["status"], step["task_run_id"]) for step in full["steps"]] == [
        ("success", "logs/1"),
        ("success", "gpu/1"),
    ]
    report = founding.post(f"/{run}/report/").json()
    assert (report["summary"]["successful_steps"], report["summary"]["failed_steps"]) == (2, 0)
    assert report["json"] == report["summary"]
    assert report["markdown"].startswith(f"# Agent Run Report {run}\n")
    assert "## Errors" not in report["markdown"]
    listed = founding.get("/").json()
    assert listed["count"] == 1
    assert listed["results"][0] == {name: full[name] for name in listed["results"][0]}


def test_a_failure_is_told_in_the_report(house: Runtime, api: Api, opened: Opened, founding: httpx2.Client) -> None:
    plan = _plan("fails", [{"id": "a", "subprocess": {"command": ["false"]}}])
    opened("operator").post("/plans", json={"plan": plan}).raise_for_status()
    run = founding.post("/launch/", json={"operator_goal": "x", "directive_id": "fails@1"}).json()["agent_run_id"]
    work_off(house, RunId(api.flow.get(run).uuid))

    report = founding.post(f"/{run}/report/").json()

    assert (report["summary"]["status"], report["summary"]["failed_steps"]) == ("failed", 1)
    assert report["summary"]["steps"][0]["error"]
    assert "## Errors\n\n- a: " in report["markdown"]
    ended = founding.post(f"/{run}/cancel/")
    assert (ended.status_code, list(ended.json())) == (400, ["error"])


def test_a_run_that_waits_for_a_yes_is_approved_or_denied(founding: httpx2.Client) -> None:
    launch = {"operator_goal": "x", "directive_id": "d4"}
    yes, no, gone = (founding.post("/launch/", json=launch).json() for _ in range(3))

    approved = founding.post(f"/{yes['agent_run_id']}/approve")
    denied = founding.post(f"/{no['agent_run_id']}/deny", json={"why": "not today"})
    cancelled = founding.post(f"/{gone['agent_run_id']}/cancel/")

    assert yes["status"] == "pending_approval"
    assert approved.json() == {"agent_run_id": yes["agent_run_id"], "status": "pending"}
    assert denied.json()["status"] == "failed"
    assert cancelled.json() == {"agent_run_id": gone["agent_run_id"], "status": "cancelled"}
    for run, verb in ((yes, "approve"), (no, "deny"), (gone, "approve")):
        again = founding.post(f"/{run['agent_run_id']}/{verb}")
        assert again.status_code == 400
        assert "not pending_approval" in again.json()["error"]


def test_what_cannot_be_launched_is_told(api: Api, founding: httpx2.Client) -> None:
    for body, words in (
        ({}, "operator_goal"),
        ({"operator_goal": "   "}, "operator_goal"),
        ({"operator_goal": "x" * 2001}, "operator_goal"),
        ({"operator_goal": "x", "max_steps": 101}, "max_steps"),
        ({"operator_goal": "x", "time_budget_minutes": 0}, "time_budget_minutes"),
        ({"operator_goal": "x", "token_budget": 50}, "token_budget"),
        ({"operator_goal": "x", "directive_id": "d9"}, "Unknown directive"),
        ({"operator_goal": "x", "custom_directive_text": "y"}, "directive_text"),
    ):
        refused = founding.post("/launch/", json=body)
        assert (refused.status_code, list(refused.json())) == (400, ["error"]), body
        assert words in refused.json()["error"]
    assert len(api.flow.runs()) == 0


def test_keys_open_no_more_than_elsewhere(api: Api, opened: Opened, founding: httpx2.Client) -> None:
    run = founding.post("/launch/", json={"operator_goal": "x"}).json()["agent_run_id"]
    viewer, elsewhere = opened("viewer"), opened("operator", project="elsewhere")
    base = f"{api.url}/api/agent-runs"

    assert httpx2.get(f"{base}/{run}/", headers=viewer.headers).status_code == 200
    assert httpx2.post(f"{base}/{run}/cancel/", headers=viewer.headers).status_code == 403
    unseen = httpx2.get(f"{base}/{run}/", headers=elsewhere.headers)
    assert (unseen.status_code, unseen.json()) == (404, {"error": "Agent run not found"})
    assert httpx2.get(f"{base}/", headers=elsewhere.headers).json() == {"results": [], "count": 0}
    refused = httpx2.post(f"{base}/launch/", headers=elsewhere.headers, json={"operator_goal": "x"})
    assert "no directive" in refused.json()["error"]
