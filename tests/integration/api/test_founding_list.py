"""The list of the founding paths: each run as its own page has it, in as many statements for many runs as for one."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx2
import pytest

from agentflow import AgentFlow, Plan
from agentflow.domain.ids import RunId, StepKey, step_id
from agentflow.engine.start_child import start_child
from agentflow.runtime import Runtime
from tests.factories import work_off
from tests.integration.api.asked import asked_of_postgres
from tests.integration.api.conftest import Api
from tests.integration.engine.pruned import note_call

Opened = Callable[..., httpx2.Client]


@pytest.fixture
def founding(api: Api, opened: Opened) -> Iterator[httpx2.Client]:
    """A viewer of the founding paths."""
    with httpx2.Client(base_url=f"{api.url}/api/agent-runs", headers=opened("viewer").headers, timeout=30) as client:
        yield client


def done(goal: object = "tidy up") -> Plan:
    """A plan of two steps that do nothing."""
    plan = Plan("done", vars={"goal": {"default": goal}})
    plan.noop("a")
    plan.noop("b", needs=["a"])
    return plan


def failing() -> Plan:
    """A plan of which the first step fails."""
    plan = Plan("fails")
    plan.subprocess("a", ["false"])
    plan.noop("b", needs=["a"])
    return plan


def asking() -> Plan:
    """A plan of which the second step waits for a yes."""
    plan = Plan("asks")
    plan.noop("a")
    plan.approval("ask", "May it go on?", needs=["a"])
    return plan


def submitted(house: Runtime, flow: AgentFlow) -> dict[str, str]:
    """Submit a run of each status, and one whose child run waits for a yes."""
    above = Plan("above")
    above.run("below", asking())
    found = {
        "pending": flow.submit(done()),
        "completed": flow.submit(done(), {"goal": "x" * 200}, budget={"tokens": 500}),
        "failed": flow.submit(failing(), budget={"usd": 1}),
        "pending_approval": flow.submit(asking()),
        "cancelled": flow.submit(done(["a", {"b": None}])),
        "above": flow.submit(above, budget={"tokens": 9000}),
    }
    for status in ("completed", "failed", "pending_approval"):
        work_off(house, RunId(found[status].uuid))
    found["cancelled"].cancel()
    child = start_child(house.context, step_id(RunId(found["above"].uuid), StepKey("below")), "tester@test")
    assert child is not None
    work_off(house, child)
    for run_id in (RunId(found["completed"].uuid), child):
        note_call(house, run_id)
    return {status: run.id for status, run in found.items()}


def test_each_run_is_listed_as_its_own_page_has_it(house: Runtime, api: Api, founding: httpx2.Client) -> None:
    runs = submitted(house, api.flow)

    listed = founding.get("/").json()["results"]

    assert [each["id"] for each in listed] == [*runs.values()][::-1]
    for each in listed:
        full = founding.get(f"/{each['id']}/").json()
        assert each == {name: full[name] for name in each} | {"operator_goal": full["operator_goal"][:100]}
    told = {each["id"]: each for each in listed}
    status = {name: told[run]["status"] for name, run in runs.items()}
    assert status == {name: name for name in runs} | {"above": "pending_approval"}
    assert [told[runs[name]]["tokens_used"] > 0 for name in ("completed", "above", "failed")] == [True, True, False]
    assert [told[runs[name]]["token_budget"] for name in ("completed", "above", "failed")] == [500, 9000, None]
    assert told[runs["completed"]]["operator_goal"] == "x" * 100


def test_many_runs_are_listed_in_as_many_statements_as_one(api: Api, founding: httpx2.Client) -> None:
    def statements(many: int) -> int:
        with asked_of_postgres() as asked:
            assert founding.get("/").json()["count"] == many
        return len(asked)

    api.flow.submit(done())
    founding.get("/")  # whose connections are new
    few = statements(1)
    for _ in range(9):
        api.flow.submit(done())

    assert statements(10) == few
    assert few < 12
