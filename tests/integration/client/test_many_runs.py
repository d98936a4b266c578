"""Among many runs, one run and a page of them are read by indexes: no table that grows is gone through."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import event, text

from agentflow import AgentFlow
from agentflow.domain.ids import RunId
from agentflow.runtime import Runtime
from tests.crowds import TABLES, multiply
from tests.factories import noop_step, shell_step, submitted, work_off

RUNS = 6000


@pytest.fixture
def flow(house: Runtime) -> Iterator[AgentFlow]:
    """A client of an installation with many runs: nearly all completed, some failed, a few running."""
    many = submitted(house.context, [shell_step("a", "echo word"), noop_step("b", ["a"])], budget={"steps": 9})
    work_off(house, many)
    running = submitted(house.context, [noop_step("a")], name="rare")
    with house.context.database.transaction() as tx:
        multiply(tx, RunId(many), RUNS)
        multiply(tx, RunId(running), 20)
        tx.execute(
            text(
                "UPDATE run_state SET state = 'failed', reason = '{\"code\": \"step_failed\"}' WHERE run_id IN "
                "(SELECT id FROM run ORDER BY created_at LIMIT 30)"
            )
        )
        tx.execute(text("ANALYZE run_state"))
    with AgentFlow(house.settings) as client:
        yield client


READS: dict[str, dict[str, Any]] = {
    "the newest": {},
    "of a project": {"project": "default"},
    "of a plan": {"name": "rare"},
    "that completed": {"state": "completed"},
    "that failed": {"state": "failed"},
    "that run": {"state": "running"},
    "that wait": {"state": "waiting"},
    "that are paused": {"state": "paused"},
    "with child runs": {"children": True},
}


def test_no_table_that_grows_is_gone_through(house: Runtime, flow: AgentFlow) -> None:
    asked: list[tuple[str, str, Any]] = []
    what = ""
    event.listen(
        flow.context.database.engine, "before_cursor_execute", lambda *args: asked.append((what, args[2], args[3]))
    )

    for name, wanted in READS.items():
        what = name
        flow.runs(limit=50, **wanted)
    page = flow.runs(limit=50)
    what = "the next page"
    flow.runs(limit=50, cursor=page.next_cursor)
    what = "one"
    flow.get(page[0].id).as_json()
    what = "the last"
    flow.get("@last")
    what = "its children"
    flow.runs(parent=page[0])

    gone_through = {}
    with house.context.database.engine.connect() as connection:
        for name, read, given in asked:
            if "FROM" in read:
                plan = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {read}", given).scalar_one()
                found = set(_gone_through(plan[0]["Plan"])) & set(TABLES)
                gone_through |= {(name, read.splitlines()[0]): found} if found else {}
    assert gone_through == {}


def _gone_through(node: dict[str, Any]) -> Iterator[str]:
    if node["Node Type"] == "Seq Scan":
        yield node["Relation Name"]
    for below in node.get("Plans", ()):
        yield from _gone_through(below)
