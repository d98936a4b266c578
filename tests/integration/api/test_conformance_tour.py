"""A tour of every address with the examples of the description: each answers, and as it is described.

The client of the tests holds every answer against the description; here each address is made to answer well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import httpx2

from agentflow.api import components
from agentflow.domain.ids import RunId
from agentflow.engine.sign import find_or_make_key
from agentflow.runtime import Runtime
from agentflow.settings import Settings
from tests import openapi
from tests.factories import work_off
from tests.integration.api.conftest import Api

Opened = Callable[..., httpx2.Client]
GATED: dict[str, Any] = {
    "agentflow": 1,
    "name": "release",
    "budget": {"tokens": 10_000},
    "steps": [
        {"id": "release", "approval": {"message": "Release it?", "allow_self": True}},
        {"id": "deploy", "needs": ["release"], "wait": {"event": "deployed"}},
        {
            "id": "summary",
            "needs": ["deploy"],
            "llm": {"model": "stub:m", "prompt": "What changed?", "max_tokens": 100},
        },
    ],
}

CHANGED = (
    ("pause", "PauseBody"),
    ("guide", "GuidanceBody"),
    ("modify", "ModificationBody"),
    ("budget", "RaiseBody"),
    ("resume", None),
    ("approve", "DecisionBody"),
    ("override", "OverridingBody"),
)
STOPPED = (("abort", "WhyBody"), ("cancel", None), ("retry", "RetryBody"))
SIGNALLED = (("signal", "SignalBody"), ("reject", "RejectionBody"))


class Tour:
    """Asks one address after the other, and remembers which."""

    def __init__(self, client: httpx2.Client) -> None:
        self._client = client
        self.seen: set[tuple[str, str]] = set()

    def get(self, path: str, template: str = "", **more: Any) -> httpx2.Response:
        """Ask."""
        return self._ask("GET", path, template, **more)

    def post(self, path: str, template: str = "", body: str | None = None, **more: Any) -> httpx2.Response:
        """Do, with the example of the body of a name."""
        return self._ask("POST", path, template, **({"json": components.examples()[body]} if body else {}), **more)

    def put(self, path: str, template: str, body: str) -> httpx2.Response:
        """Put the example of the body of a name at its address."""
        return self._ask("PUT", path, template, json=components.examples()[body])

    def delete(self, path: str, template: str = "") -> httpx2.Response:
        """Take away."""
        return self._ask("DELETE", path, template)

    def _ask(self, method: str, path: str, template: str, **more: Any) -> httpx2.Response:
        answer = self._client.request(method, path, **more)
        assert answer.is_success, (method, path, answer.text)
        self.seen.add((method, template or path))
        return answer


def test_every_address_answers_as_it_is_described(house: Runtime, api: Api, opened: Opened) -> None:
    tour = Tour(opened("admin"))

    _see_plans_and_schedules(tour)
    _see_a_run(tour, house)
    _see_verbs(tour)
    _see_the_installation(tour, house.settings)
    _see_webhooks(tour)

    told = {(method.upper(), path) for path, each in openapi.description()["paths"].items() for method in each}
    missed = told - {(method, f"{openapi.BASE}{path}") for method, path in tour.seen} - {("GET", "/livez")}
    elsewhere = {("GET", "/events"), ("GET", "/health/ready"), ("POST", "/webhooks/{name}/test")}
    assert (
        missed - {(method, f"{openapi.BASE}{path}") for method, path in elsewhere} == set()
    )  # these have their own tests


def _see_plans_and_schedules(tour: Tour) -> None:
    tour.post("/plans", body="PushBody")
    tour.post("/plans", body="PushBody")
    tour.post("/plans/check", body="PushBody")
    tour.get("/plans")
    tour.get("/plan-schema")
    for each in ("", "/graph"):
        tour.get(f"/plans/hello@1{each}", f"/plans/{{plan}}{each}")
    tour.post("/schedules", body="NamedScheduleBody")
    tour.get("/schedules")
    named, path = "/schedules/mornings", "/schedules/{name}"
    tour.get(named, path)
    tour.put(named, path, body="ScheduleBody")
    tour.post(f"{named}/backfill", f"{path}/backfill", body="BackfillBody")
    for verb in ("run-now", "pause", "resume"):
        tour.post(f"{named}/{verb}", f"{path}/{verb}")
    tour.get(f"{named}/firings", f"{path}/firings")
    tour.delete(named, path)


def _see_a_run(tour: Tour, house: Runtime) -> None:
    made = tour.post("/runs", body="SubmissionBody")
    run, path = made.json()["id"], "/runs/{run}"
    work_off(house, RunId(UUID(run)))
    tour.post("/runs/check", body="TrialBody")
    tour.get("/runs")
    for each in (
        "",
        "/steps",
        "/lineage",
        "/why",
        "/events",
        "/verify",
        "/report",
        "/budget",
        "/gates",
        "/artifacts",
        "/logs",
    ):
        tour.get(f"/runs/{run}{each}", f"{path}{each}")
    for kind in ("md", "html"):
        tour.get(f"/runs/{run}/report", f"{path}/report", params={"format": kind})
    tour.get(f"/runs/{run}/steps/greet", f"{path}/steps/{{step}}")
    tour.get(f"/runs/{run}/steps/greet/attempts", f"{path}/steps/{{step}}/attempts")
    tour.get(f"/runs/{run}/artifacts/stdout", f"{path}/artifacts/{{name}}")
    forked = tour.post(f"/runs/{run}/fork", f"{path}/fork", body="ForkBody").json()["id"]
    work_off(house, RunId(UUID(forked)))
    tour.get(f"/runs/{run}/diff/{forked}", f"{path}/diff/{{other}}")


def _see_verbs(tour: Tour) -> None:
    path = "/runs/{run}"
    for verbs in (CHANGED, STOPPED, SIGNALLED):
        run = tour.post("/runs", json={"plan": GATED}).json()["id"]
        for verb, body in verbs:
            tour.post(f"/runs/{run}/{verb}", f"{path}/{verb}", body=body)
    tour.post("/runs/pause", body="ManyPausedBody")
    for verb in ("resume", "retry", "cancel"):
        tour.post(f"/runs/{verb}", body="ManyBody")


def _see_the_installation(tour: Tour, settings: Settings) -> None:
    for path in ("gates", "workers", "queues", "limits", "budgets", "dead-letters", "metrics", "openapi.json", "docs"):
        tour.get(f"/{path}")
    find_or_make_key(settings)
    for path in ("events", "checkpoints", "key"):
        tour.get(f"/audit/{path}")
    job = tour.post("/audit/verify").headers["Location"].removeprefix(openapi.BASE)
    tour.get(job, "/jobs/{job}")
    tour.get("/jobs")
    tour.post("/dead-letters/replay", body="ReplayBody")
    tour.get("/maintenance")
    tour.post("/maintenance/pause", body="PauseBody")
    tour.post("/maintenance/resume")
    tour.get("/retention", params={"older_than": "30d"})
    tour.post("/retention/prune", body="PruningBody")
    tour.post("/keys", body="NewKeyBody")
    tour.get("/keys")
    tour.get("/keys/ci", "/keys/{name}")
    tour.delete("/keys/ci", "/keys/{name}")


def _see_webhooks(tour: Tour) -> None:
    tour.post("/webhooks", body="NewWebhookBody")
    tour.get("/webhooks")
    named, path = "/webhooks/ops", "/webhooks/{name}"
    tour.get(named, path)
    for verb in ("disable", "enable", "rotate"):
        tour.post(f"{named}/{verb}", f"{path}/{verb}")
    tour.post(f"{named}/replay", f"{path}/replay", body="SendAgainBody")
    tour.get(f"{named}/deliveries", f"{path}/deliveries")
    tour.delete(named, path)
