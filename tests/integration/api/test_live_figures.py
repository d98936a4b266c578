"""The figures of a live page: as they are described, and read once for all who listen where they are the same."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import httpx2
import pytest

from agentflow.api import live_hub
from agentflow.domain.ids import RunId
from agentflow.runtime import Runtime
from agentflow.storage.database import statement
from tests import openapi
from tests.factories import work_off
from tests.integration.api.asked import asked_of_postgres
from tests.integration.api.conftest import BASE, Api
from tests.integration.api.listening import listen

Opened = Callable[..., httpx2.Client]
HOWTO = Path(__file__).parents[3] / "docs/howto/live.md"
PLAN = {
    "agentflow": 1,
    "name": "p",
    "budget": {"tokens": 100},
    "steps": [{"id": "a", "subprocess": {"command": ["true"]}}, {"id": "b", "noop": {}}],
}


def test_the_figures_are_as_they_are_described(house: Runtime, api: Api, opened: Opened) -> None:
    client = opened("operator")
    with listen(client, "/events") as heard:
        before = next(heard)
    run = client.post("/runs", json={"plan": PLAN}).json()["id"]
    work_off(house, RunId(api.flow.get(run).uuid))
    with listen(client, "/events") as heard:
        after = next(heard)

    told = openapi.description()["paths"][f"{BASE}/events"]["get"]["responses"]["200"]
    events = told["content"]["text/event-stream"]["schema"]["x-events"]
    for figures in (before, after):
        assert figures.event == "kpi"
        openapi.check_shape(figures.data, events["kpi"])
    assert (before.data["task_count"], before.data["avg_latency_ms"], before.data["success_rate"]) == (0, None, None)
    assert (after.data["task_count"], after.data["success_rate"]) == (2, 1.0)
    schema = openapi.description()["components"]["schemas"]["Kpi"]
    assert [*schema["properties"]] == schema["required"] == [*after.data]
    table = HOWTO.read_text(encoding="utf-8").partition("**Figures.**")[2].partition("**Output.**")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == schema["required"]


def test_what_is_the_same_for_all_is_read_once_a_round(opened: Opened, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_hub, "CHORES_SECONDS", 0.1)
    letters = {_bare("view_queues"): "Q", _bare("measure_attempts"): "A"}
    projects = ("one", "two", "three")
    with ExitStack() as streams:
        heard = [streams.enter_context(listen(opened("viewer", project=each), "/events")) for each in projects]
        assert {next(each).data["project"] for each in heard} == {*projects}
        with asked_of_postgres() as asked:
            for _ in range(4):
                assert next(heard[-1]).event == "kpi"

    rounds = "".join(letters.get(" ".join(text.split())[:60], "") for text, _ in asked).split("Q")
    assert {"AAA"} == {*rounds[1:-1]}


def _bare(name: str) -> str:
    return " ".join(statement(name).text.split())[:60]
