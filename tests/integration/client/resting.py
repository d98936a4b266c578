"""Runs with budgets that rest over them, written as the engine writes them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import text

from agentflow import AgentFlow, Plan, Run
from agentflow.domain.budget import Exhaustion
from agentflow.domain.ids import RunId
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.runtime import Runtime
from agentflow.storage import runs
from agentflow.storage.database import to_json

GIVE_BACK = "UPDATE step SET reason = CAST(:reason AS jsonb) WHERE run_id = :id AND key = :key"


def noop_run(flow: AgentFlow, *keys: str, project: str | None = None) -> Run:
    """Submit a run of steps that do nothing, none after another."""
    plan = Plan("tested")
    for key in keys or ("one",):
        plan.noop(key, needs=[])
    return flow.submit(plan, project=project)


def cap(house: Runtime, run: Run, **caps: Any) -> None:
    """Give a run these caps, as its plan would have."""
    columns = ", ".join(caps)
    values = ", ".join(f":{name}" for name in caps)
    with house.context.database.transaction() as tx:
        insert = f"INSERT INTO run_budget (run_id, {columns}) VALUES (:id, {values})"
        tx.execute(text(insert), {"id": run.uuid, **caps})
    run.refresh()


def exhaust(house: Runtime, run: Run, *exhaustions: Exhaustion, key: str = "one") -> None:
    """Let a run rest over budgets, with one of its steps given back for them."""
    reason = Reason(ReasonCode.BUDGET_EXHAUSTED, exhaustions[0].as_detail())
    with house.context.database.transaction() as tx:
        locked = runs.lock(tx, RunId(run.uuid))
        assert locked is not None
        runs.exhaust(tx, locked, exhaustions)
        tx.execute(text(GIVE_BACK), {"id": run.uuid, "key": key, "reason": to_json(reason.as_json())})
    run.refresh()
