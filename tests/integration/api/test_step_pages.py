"""Pages of the steps of a run: the steps as the run shows them, and of each page only its own are read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx2

from agentflow.domain.ids import RunId
from agentflow.runtime import Runtime
from tests.factories import work_off
from tests.integration.api.asked import asked_of_postgres
from tests.integration.api.conftest import Api
from tests.integration.engine.pruned import note_call

Opened = Callable[..., httpx2.Client]
PLAN: dict[str, Any] = {
    "agentflow": 1,
    "name": "many",
    "steps": [
        {"id": "a", "subprocess": {"command": ["echo", "[1, 2, 3]"]}, "outputs": "stdout_json"},
        {
            "id": "each",
            "needs": ["a"],
            "foreach": {"items": "steps.a.result"},
            "steps": [
                {"id": "one", "subprocess": {"command": ["echo", "{{ item }}"]}},
                {"id": "two", "needs": ["one"], "noop": {}},
            ],
        },
        {"id": "fails", "needs": [], "subprocess": {"command": ["false"]}, "on_failure": "continue"},
        {"id": "join", "needs": ["each", "a"], "noop": {}},
    ],
}


def test_pages_are_the_steps_of_the_run(house: Runtime, api: Api, opened: Opened) -> None:
    client = opened("operator")
    made = client.post("/runs", json={"plan": PLAN})
    assert made.status_code == 201, made.text
    run = RunId(api.flow.get(made.json()["id"]).uuid)
    work_off(house, run)
    note_call(house, run)
    whole = client.get(f"/runs/{run}").json()["steps"]

    for limit in (1, 4, 1000):
        found, cursor = [], None
        while True:
            parameters = {"limit": limit} | ({} if cursor is None else {"cursor": cursor})
            page = client.get(f"/runs/{run}/steps", params=parameters).json()
            found += page["steps"]
            assert len(page["steps"]) <= limit
            if (cursor := page["next_cursor"]) is None:
                break
        assert found == whole

    assert [each["id"] for each in whole][:5] == ["a", "each", "each[0]", "each[0].one", "each[0].two"]
    assert whole[0]["attempts"][0]["call"] is not None
    assert whole[0]["artifacts"] != []
    strange = client.get(f"/runs/{run}/steps", params={"cursor": "x"})
    assert strange.status_code == 400


def test_of_a_large_run_a_page_reads_its_own_steps(api: Api, opened: Opened) -> None:
    client = opened("operator")
    steps = [{"id": f"s{number}", "noop": {}} for number in range(300)]
    run = client.post("/runs", json={"plan": {"agentflow": 1, "name": "large", "steps": steps}}).json()["id"]
    client.get(f"/runs/{run}/steps")

    with asked_of_postgres() as asked:
        page = client.get(f"/runs/{run}/steps", params={"limit": 7}).json()

    assert [each["id"] for each in page["steps"]] == [f"s{number}" for number in range(7)]
    [read] = [given["step_ids"] for _, given in asked if "step_ids" in (given or {})]
    assert len(read) == 7
    assert not [text for text, _ in asked if text.startswith("-- A run as surfaces show it with its steps")]
    assert len(asked) < 10
