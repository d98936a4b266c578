"""Keys: nothing is answered to who shows none that opens it; and what is done by one stands in the audit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import timedelta

import httpx2
import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute, _IncludedRouter
from sqlalchemy import text
from starlette.routing import BaseRoute

from agentflow import AgentFlow, errors
from agentflow.api.app import make_app
from agentflow.api.mcp_route import PATH as MCP
from agentflow.domain.api_key import Role
from agentflow.runtime import Runtime
from agentflow.settings import Settings
from tests.integration.api.conftest import BASE, TLS, Api

Opened = Callable[..., httpx2.Client]
OPEN = "/livez"
"""The one address that answers to anybody; what is at MCP has tests of its own."""
FORGED = "af_" + "0" * 12 + "_" + "A" * 43


def _routes(router: APIRouter, prefix: str = "") -> Iterator[tuple[str, BaseRoute]]:
    """Every route of a router and of those that it includes, with its whole path."""
    for route in router.routes:
        if isinstance(route, _IncludedRouter):
            yield from _routes(route.original_router, prefix + route.include_context.prefix)
        else:
            yield prefix + getattr(route, "path", ""), route


def _calls(app: FastAPI) -> Iterator[tuple[str, str, Role]]:
    """Every route that takes a key as a method, a path and the role that it takes."""
    for path, route in _routes(app.router):
        if path not in (OPEN, MCP):
            assert isinstance(route, APIRoute), path
            names = [getattr(each.call, "__name__", "") for each in route.dependant.dependencies]
            [role] = [Role(name.removeprefix("is_")) for name in names if name.startswith("is_")]
            for method in route.methods or ():
                yield method, path, role


def _ask(api: Api, client: httpx2.Client, method: str, path: str) -> httpx2.Response:
    filled = path.replace("{run}", "@last").replace("{step}", "a").replace("{name:path}", "x")
    if path.startswith(BASE):
        return client.request(method, filled.removeprefix(BASE))
    return httpx2.request(method, api.url + filled, headers=client.headers, verify=TLS)


def test_no_route_answers_without_a_key_that_opens_it(api: Api, opened: Opened, api_settings: Settings) -> None:
    """All routes that there are, by the table of the application."""
    flow, viewer = api.flow, opened("viewer")
    expired = flow.create_key("expired", "admin", expires=timedelta(days=1)).text
    with flow.context.database.transaction() as tx:
        tx.execute(text("UPDATE api_key SET expires_at = now() WHERE name = 'expired'"))
    revoked = flow.create_key("revoked", "admin").text
    flow.revoke_key("revoked")
    calls = sorted(_calls(make_app(api_settings)))
    assert len(calls) > 70

    for shown, words in (
        (None, "Show a key"),
        ("Bearer x", "not one of this installation"),
        (FORGED, "not one of this installation"),
        (expired[:-1] + ("A" if expired[-1] != "A" else "B"), "not one of this installation"),
        (expired, "is expired"),
        (revoked, "is revoked"),
    ):
        with api.client(shown) as stranger:
            for method, path, _ in calls:
                refused = _ask(api, stranger, method, path)
                assert refused.status_code == 401, (method, path, shown)
                assert refused.headers["WWW-Authenticate"].startswith("Bearer")
                assert words in (refused.json().get("detail") or refused.json()["error"])
    for method, path, role in calls:
        if not Role.VIEWER.includes(role):
            refused = _ask(api, viewer, method, path)
            assert refused.status_code == 403, (method, path)
            assert f"a key of role {role.value}" in (refused.json().get("detail") or refused.json()["error"])


def test_only_that_it_lives_is_told_to_anybody(api: Api) -> None:
    with httpx2.Client(base_url=api.url, verify=TLS) as stranger:
        assert stranger.get("/livez").json() == {"status": "ok"}
        assert stranger.get("/").status_code == 404
        assert stranger.get(f"{BASE}/nowhere").headers["Content-Type"] == "application/problem+json"


def test_a_key_of_one_project_sees_and_does_what_is_of_it_only(api: Api, opened: Opened) -> None:
    plan = {"agentflow": 1, "name": "p", "steps": [{"id": "a", "noop": {}}]}
    everywhere, ours = opened("operator"), opened("operator", project="ours")
    theirs = everywhere.post("/runs", json={"plan": plan, "project": "theirs"}).json()

    mine = ours.post("/runs", json={"plan": plan}).json()

    assert (theirs["project"], mine["project"]) == ("theirs", "ours")
    assert [run["id"] for run in ours.get("/runs").json()["runs"]] == [mine["id"]]
    assert ours.get(f"/runs/{theirs['id']}").status_code == 404
    assert ours.post(f"/runs/{theirs['id']}/cancel").status_code == 404
    assert ours.get("/runs", params={"project": "theirs"}).status_code == 403
    assert ours.post("/runs", json={"plan": plan, "project": "theirs"}).status_code == 403


def test_who_holds_a_key_is_the_actor_of_what_is_done_with_it(api: Api, opened: Opened) -> None:
    plan = {"agentflow": 1, "name": "p", "steps": [{"id": "a", "noop": {}}]}
    run = opened("operator").post("/runs", json={"plan": plan}).json()

    [event] = api.flow.get(run["id"]).events()

    assert event.actor == "key:operator-0"


def test_a_secret_is_told_once_and_kept_nowhere(house: Runtime, flow_of_keys: AgentFlow) -> None:
    made = flow_of_keys.create_key("ci", "operator", project="ops", expires="90d")
    flow_of_keys.revoke_key("ci")
    secret = made.text.split("_", 2)[2]

    with house.context.database.transaction() as tx:
        rows = str(tx.execute(text("SELECT * FROM api_key")).all())
        events = tx.execute(text("SELECT action, subject, facts FROM audit_event ORDER BY id")).all()

    assert secret not in rows
    assert secret not in repr(made)
    assert secret not in str(events)
    assert [(each.action, each.subject) for each in events] == [("create_key", "key:ci"), ("revoke_key", "key:ci")]
    [listed] = flow_of_keys.keys()
    assert (listed.state, listed.role, listed.project) == ("revoked", "operator", "ops")


def test_a_name_is_one_keys_own_until_that_is_revoked(flow_of_keys: AgentFlow) -> None:
    flow_of_keys.create_key("ci", "viewer")
    with pytest.raises(errors.InvalidTransition, match="already"):
        flow_of_keys.create_key("ci", "viewer")
    flow_of_keys.revoke_key("ci")

    assert flow_of_keys.create_key("ci", "admin").key.role is Role.ADMIN
    with pytest.raises(errors.NotFound, match="ci"):
        flow_of_keys.revoke_key("cii")
    for wrong in ({"role": "root"}, {"role": "viewer", "expires": "soon"}, {"role": "viewer", "expires": "0s"}):
        with pytest.raises(errors.UsageError):
            flow_of_keys.create_key("other", **wrong)


def test_the_last_use_is_noted(api: Api, opened: Opened) -> None:
    viewer = opened("viewer")
    [before] = api.flow.keys()

    assert viewer.get("/runs").status_code == 200

    [after] = api.flow.keys()
    assert before.last_used_at is None
    assert after.last_used_at is not None


@pytest.fixture
def flow_of_keys(house: Runtime) -> Iterator[AgentFlow]:
    """A client without a server."""
    with AgentFlow(house.settings) as flow:
        yield flow


def test_a_plan_of_another_project_is_no_plan_for_the_key_of_one(opened: Callable[..., httpx2.Client]) -> None:
    plan = {"agentflow": 1, "name": "theirs", "project": "b", "steps": [{"id": "a", "noop": {}}]}

    of_a, of_b = opened("operator", "a"), opened("operator", "b")
    refused = [of_a.post(path, json={"plan": plan}) for path in ("/runs", "/plans", "/runs/check")]

    assert [(answer.status_code, answer.json()["code"]) for answer in refused] == [(403, "not_allowed")] * 3
    assert of_b.post("/plans", json={"plan": plan}).status_code == 201
    hidden = of_a.post("/runs", json={"plan": "theirs"})
    assert (hidden.status_code, "project b" in hidden.text) == (404, False)
