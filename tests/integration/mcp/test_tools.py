"""The tools, asked by the official client: over stdio as a process of its own, and over HTTP with a key."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import anyio
import httpx2
from mcp import Client, StdioServerParameters
from mcp.client.streamable_http import create_mcp_http_client, streamable_http_client

from agentflow.runtime import Runtime
from agentflow.storage import views
from tests.factories import work_off
from tests.integration.api.conftest import Api, api, api_settings  # noqa: F401 - fixtures
from tests.integration.client.conftest import environment_of
from tests.workers import REPOSITORY

PLAN = {"agentflow": 1, "name": "told", "steps": [{"id": "a", "noop": {}}]}
GATED = {"agentflow": 1, "name": "gated", "steps": [{"id": "g", "approval": {"message": "Go on?"}}]}
TOOLS = ["agent_launch", "agent_status", "agent_list", "agent_report", "agent_why", "agent_cancel", "agent_approve"]


def _stdio(house: Runtime) -> StdioServerParameters:
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY)}
    return StdioServerParameters(
        command=sys.executable, args=["-m", "agentflow", "mcp"], env=environment | environment_of(house.settings)
    )


def _ask(server: Any, *calls: tuple[str, dict[str, Any]]) -> list[Any]:
    """Make calls one after the other; the word LAST stands for the run of the launch before."""

    async def ask() -> list[Any]:
        answers: list[Any] = []
        async with Client(server) as client:
            assert [tool.name for tool in (await client.list_tools()).tools] == TOOLS
            for name, arguments in calls:
                answers.append(await client.call_tool(name, arguments))
        return answers

    return anyio.run(ask)


def test_an_agent_on_this_machine_launches_looks_and_cancels(house: Runtime) -> None:
    launched, listed, status, why, cancelled, again, unknown, guessed, wrong = _ask(
        _stdio(house),
        ("agent_launch", {"plan": PLAN, "idempotency_key": "one"}),
        ("agent_list", {}),
        ("agent_status", {"run": "@last"}),
        ("agent_why", {"run": "@last"}),
        ("agent_cancel", {"run": "@last"}),
        ("agent_cancel", {"run": "@last"}),
        ("agent_launch", {"plan": "no-such-plan"}),
        ("agent_launch", {"plan": PLAN, "dry_run": True}),
        ("agent_list", {"limit": 1000, "state": 5}),
    )

    assert launched.structured_content["state"] == "running"
    assert [run["id"] for run in listed.structured_content["result"]] == [launched.structured_content["id"]]
    assert (status.structured_content["percent"], status.structured_content["steps"]) == (0, {"ready": 1})
    assert "no worker" in why.content[0].text
    assert cancelled.structured_content["state"] == "cancelled"
    assert again.structured_content == cancelled.structured_content, "whose answer was lost asks again"
    assert unknown.is_error
    assert "not_found" in unknown.content[0].text
    assert guessed.is_error
    said = "misfit: dry_run: there is no such field: known: budget, idempotency_key, plan, vars"
    assert guessed.content[0].text.endswith(said)
    assert "misfit: " in wrong.content[0].text
    assert "limit: must be at most 100" in wrong.content[0].text
    assert "state: takes a text" in wrong.content[0].text
    assert "pydantic" not in guessed.content[0].text + wrong.content[0].text


def test_what_has_ended_otherwise_is_not_told_as_cancelled(house: Runtime) -> None:
    _ask(_stdio(house), ("agent_launch", {"plan": PLAN}))
    with house.context.database.transaction() as tx:
        run_id = views.find_run(tx, "@last")
    work_off(house, run_id)

    [refused] = _ask(_stdio(house), ("agent_cancel", {"run": "@last"}))

    assert refused.is_error
    assert "invalid_transition" in refused.content[0].text
    assert "has ended (completed)" in refused.content[0].text


def test_a_value_of_another_type_is_refused_and_not_guessed_at(house: Runtime) -> None:
    launched, *refused, status = _ask(
        _stdio(house),
        ("agent_launch", {"plan": GATED}),
        ("agent_list", {"limit": True}),
        ("agent_list", {"limit": "5"}),
        ("agent_approve", {"run": "@last", "approve": "yes"}),
        ("agent_approve", {"run": "@last", "approve": "true"}),
        ("agent_approve", {"run": "@last", "approve": 1}),
        ("agent_status", {"run": 5}),
        ("agent_status", {"run": "@last"}),
    )

    assert launched.structured_content["state"] == "waiting"
    whole, true, text = ("limit: takes a whole number", "approve: takes true or false", "run: takes a text")
    said = [each.content[0].text.partition("misfit: ")[2] for each in refused]
    assert said == [whole, whole, true, true, true, text]
    assert [gate["step"] for gate in status.structured_content["gates"]] == ["g"], "nothing was decided"


def test_only_what_may_be_called_again_says_so(house: Runtime) -> None:
    async def listed() -> dict[str, Any]:
        async with Client(_stdio(house)) as client:
            return {tool.name: tool.annotations for tool in (await client.list_tools()).tools}

    hints = anyio.run(listed)
    writing = [name for name in TOOLS if not hints[name].read_only_hint]
    assert {name: hints[name].idempotent_hint for name in writing} == {
        "agent_launch": False,
        "agent_cancel": True,
        "agent_approve": False,
    }


def test_an_agent_with_a_key_does_what_its_role_may(api: Api) -> None:  # noqa: F811 - the fixture
    operator, viewer = api.flow.create_key("agent", "operator").text, api.flow.create_key("looker", "viewer").text

    [launched] = _ask(_over_http(api, operator), ("agent_launch", {"plan": GATED}))
    [own] = _ask(_over_http(api, operator), ("agent_approve", {"run": "@last", "approve": True}))
    seen, denied = _ask(
        _over_http(api, viewer),
        ("agent_status", {"run": launched.structured_content["id"]}),
        ("agent_cancel", {"run": "@last"}),
    )

    [rejected] = _ask(_over_http(api, operator), ("agent_approve", {"run": "@last", "approve": False, "why": "no"}))

    assert launched.structured_content["state"] == "waiting"
    assert rejected.structured_content["failed"] == {"g": "was rejected by key:agent"}
    assert "may not approve" in own.content[0].text
    assert [gate["step"] for gate in seen.structured_content["gates"]] == ["g"]
    assert "not_allowed" in denied.content[0].text
    events = api.flow.get(launched.structured_content["id"]).events()
    assert {event.actor for event in events} == {"key:agent"}


def test_without_a_key_there_are_no_tools(api: Api) -> None:  # noqa: F811 - the fixture
    body = {"jsonrpc": "2.0", "id": 1, "method": "tools/list"}
    refused = httpx2.post(f"{api.url}/mcp", json=body, headers={"Accept": "application/json, text/event-stream"})
    assert (refused.status_code, refused.json()["code"]) == (401, "unauthenticated")


def test_the_report_of_a_run_is_markdown(house: Runtime) -> None:
    _ask(_stdio(house), ("agent_launch", {"plan": PLAN}))
    with house.context.database.transaction() as tx:
        run_id = views.find_run(tx, "@last")
    work_off(house, run_id)

    [report] = _ask(_stdio(house), ("agent_report", {"run": "@last"}))

    assert report.content[0].text.startswith("# ")
    assert json.dumps(report.structured_content)


def _over_http(api: Api, key: str) -> Any:  # noqa: F811 - the fixture
    return streamable_http_client(
        f"{api.url}/mcp", http_client=create_mcp_http_client(headers={"Authorization": f"Bearer {key}"})
    )
