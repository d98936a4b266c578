"""The key of one project: whatever it asks for, nothing of a run of another is in the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from agentflow.domain.ids import RunId, StepKey
from agentflow.engine.claim import Claimed, claim
from agentflow.engine.submit import SubmitRequest, submit
from agentflow.runtime import Runtime
from agentflow.storage import workers
from agentflow.storage.workers import WorkerTold
from tests import openapi
from tests.factories import noop_step, planned
from tests.integration.api.conftest import TLS, Api

Opened = Callable[..., httpx2.Client]
WORKER = "worker@host"
SHARED: dict[str, Any] = {
    "concurrency": {"key": "shared-db", "limit": 2},
    "rate_limit": {"key": "shared-api", "limit": "30/m", "burst": 4},
}
PRIVATE: dict[str, Any] = {"concurrency": {"key": "hidden-db", "limit": 1}, "rate_limit": {"limit": "1/m"}}


def _start(house: Runtime, project: str, steps: list[dict[str, Any]], *begun: str) -> RunId:
    """Submit a run and begin some steps of it on the worker that all share."""
    plan, content = planned(steps, name=f"{project}-plan")
    request = SubmitRequest(plan=plan, vars={}, project=project, actor=f"{project}@test", content=content, files={})
    run_id = submit(house.context, request).run_id
    for key in begun:
        assert isinstance(claim(house.context, run_id, StepKey(key), f"{WORKER}:7"), Claimed)
    return run_id


@pytest.fixture
def runs(house: Runtime) -> tuple[RunId, RunId]:
    """A run of ``ours`` and one of ``hidden``, which share a worker, a concurrency and a rate."""
    told = WorkerTold(WORKER, 7, "1", "prefork", 4, ("engine", "commands"), 60.0, 2, 1.0, is_draining=False)
    with house.context.database.transaction() as tx:
        workers.see(tx, told)
    theirs = [noop_step(f"hidden{i}", needs=[], **SHARED) for i in range(3)]
    theirs.append(noop_step("hidden-own", needs=[], **PRIVATE))
    hidden = _start(house, "hidden", theirs, "hidden0", "hidden-own")
    own = [noop_step(f"a{i}", needs=[], **SHARED) for i in range(3)]
    return _start(house, "ours", own, "a0"), hidden


def test_no_route_tells_a_key_of_one_project_of_a_run_of_another(
    api: Api, opened: Opened, runs: tuple[RunId, RunId]
) -> None:
    """All routes that can be read, by the description, and those of the founding paths."""
    ours, hidden = runs
    admin, everywhere = opened("admin", project="ours"), opened("admin")
    filled = {"{run}": str(ours), "{other}": str(ours), "{step}": "a1", "{name}": "x", "{plan}": "x"}
    paths = [path for path, methods in openapi.description()["paths"].items() if "get" in methods]
    assert len(paths) > 40
    seen = set()

    for path in [*paths, "/api/agent-runs/", "/api/agent-runs/{run}/"]:
        address = path
        for variable, value in filled.items():
            address = address.replace(variable, value)
        answer = httpx2.get(api.url + address, headers=admin.headers, timeout=30, verify=TLS)
        assert answer.status_code != 500, (path, answer.text)
        assert "hidden" not in answer.text, (path, answer.text)
        assert str(hidden)[:8] not in answer.text.replace(str(ours), ""), (path, answer.text)
        if str(hidden) in httpx2.get(api.url + address, headers=everywhere.headers, timeout=30, verify=TLS).text:
            seen.add(path.removeprefix(openapi.BASE))

    assert {"/workers", "/limits", "/runs/{run}/why", "/runs"} <= seen  # there was something to be told


def test_what_is_shared_is_counted_for_all(opened: Opened, runs: tuple[RunId, RunId]) -> None:
    ours, _ = runs
    client = opened("viewer", project="ours")

    [worker] = client.get("/workers").json()["workers"]
    [place] = client.get("/limits").json()["concurrencies"]
    why = client.get(f"/runs/{ours}/why", params={"step": "a1"}).json()["reason"]

    assert [work["run"] for work in worker["running"]] == [str(ours)]
    assert (place["key"], place["places"], place["waiting"]) == ("shared-db", 2, 4)
    assert {each["run"] for each in (*place["holders"], *place["first_waiting"])} == {str(ours)}
    assert [(each["run"], each["step"]) for each in why["detail"]["holders"]] == [(str(ours), "a0")]
    assert why["detail"]["held"] == 2
    assert "and 1 more" in why["sentence"]
    assert client.get("/limits", params={"key": "hidden-db"}).status_code == 404
    assert client.get("/maintenance").status_code == 403


def test_a_plan_of_another_project_is_not_told_by_its_hash(opened: Opened) -> None:
    ours, theirs = opened("operator", project="ours"), opened("operator", project="theirs")
    secret = {"agentflow": 1, "name": "p", "steps": [{"id": "merger", "noop": {}}]}
    wanted = theirs.post("/plans", json={"plan": secret}).json()["fingerprint"]
    other = {"agentflow": 1, "name": "p", "steps": [{"id": "a", "noop": {}}]}
    asked = {"plan": other, "plan_hash": wanted[:8]}

    own, foreign = theirs.post("/runs/check", json=asked), ours.post("/runs/check", json=asked)

    assert (own.status_code, foreign.status_code) == (409, 409)
    assert own.json()["details"]["wanted"] == wanted
    assert "merger" in own.text
    assert (foreign.json()["details"]["wanted"], foreign.json()["details"]["diff"]) == (wanted[:8], None)
    assert "merger" not in foreign.text
