"""Runs with budgets, what calls of theirs used, and runs that rest over them, written as the engine writes them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from uuid import uuid4

from sqlalchemy import text

from agentflow import AgentFlow, Plan, Run
from agentflow.domain.budget import Amounts, Exhaustion
from agentflow.domain.call import CallUsage
from agentflow.domain.ids import AttemptId, RunId, StepKey, step_id
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.runtime import Runtime
from agentflow.storage import runs, spending
from agentflow.storage.database import to_json

ATTEMPT = """
INSERT INTO attempt (
    id, run_id, step_id, number, state, claim_token, worker, lease_until, started_at, ended_at, reserved,
    is_stop_requested
) VALUES (
    :id, :run, :step, :number, :state, :id, 'w@h:1', now(), now() - :ago,
    CASE WHEN :state <> 'running' THEN now() END, CAST(:reserved AS jsonb), false
)
RETURNING started_at
"""
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


def attempt(
    house: Runtime,
    run: Run,
    key: str = "one",
    *,
    state: str = "succeeded",
    number: int = 1,
    reserved: Amounts | None = None,
    usage: CallUsage | None = None,
    ago: timedelta = timedelta(),
    **call: Any,
) -> AttemptId:
    """Give a step an attempt that reserved something and, where it ended, the row of what its call used."""
    attempt_id, step = AttemptId(uuid4()), step_id(RunId(run.uuid), StepKey(key))
    held = (reserved or Amounts(steps=1)).as_json() | {"granted": 1}
    row = {"id": attempt_id, "run": run.uuid, "step": step, "number": number, "state": state, "ago": ago}
    with house.context.database.transaction() as tx:
        started_at = tx.execute(text(ATTEMPT), {**row, "reserved": to_json(held)}).scalar_one()
        if usage is not None:
            owner = runs.read_owner(tx, RunId(run.uuid))
            fields = {"provider": "openai", "model": "gpt-4o-mini", "finish_reason": "stop"} | call
            made = spending.LlmCall(
                attempt_id, step, owner.project, owner.directive, usage=usage, started_at=started_at,
                duration_seconds=1.5, **fields,
            )  # fmt: skip
            spending.insert_call(tx, RunId(run.uuid), made)
    run.refresh()
    return attempt_id
