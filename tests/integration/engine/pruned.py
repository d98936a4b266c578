"""Runs that ended long ago, for the tests of retention and checkpoints."""

from __future__ import annotations

from dataclasses import replace
from uuid import uuid4

from sqlalchemy import text

from agentflow.content.store import Address
from agentflow.domain.call import CallUsage
from agentflow.domain.ids import AttemptId, RunId, StepKey, step_id
from agentflow.engine.submit import SubmitRequest, submit
from agentflow.runtime import Runtime
from agentflow.storage import spending
from tests.factories import attempt_rows, noop_step, planned, work_off

DAY = 86_400.0
WEEK = 7 * DAY
STEPS = [noop_step("a"), noop_step("b", needs=["a"])]
USED = CallUsage(100, 20, 5, 3, 7_000)


def ended_run(house: Runtime, *, days_ago: float = 30, directive: str | None = None, key: str | None = None) -> RunId:
    """A run of two steps that ended some days ago; its first step is noted to have called a model."""
    plan, content = planned(STEPS)
    request = SubmitRequest(
        plan=plan,
        vars={},
        project="default",
        actor="tester@test",
        content=content,
        files={},
        idempotency_key=key,
        directive=directive,
    )
    run_id = submit(house.context, request).run_id
    work_off(house, run_id)
    age(house, run_id, days_ago)
    note_call(house, run_id, directive)
    house.context.store.put(Address(str(run_id), "kept", "a", 1), b"what it left")
    return run_id


def age(house: Runtime, run_id: RunId, days: float) -> None:
    """Let a run have ended some days ago, and its attempts with it."""
    with house.context.database.transaction() as tx:
        values = {"run": run_id, "days": days}
        for statement in (
            "UPDATE run_state SET ended_at = now() - make_interval(secs => 86400 * CAST(:days AS float8)) "
            "WHERE run_id = :run",
            "UPDATE attempt SET started_at = started_at - make_interval(secs => 86400 * CAST(:days AS float8)) "
            "WHERE run_id = :run",
        ):
            tx.execute(text(statement), values)


def note_call(house: Runtime, run_id: RunId, directive: str | None = None) -> None:
    """Note that the first attempt of the run called a model."""
    first = attempt_rows(house.context, run_id)[0]
    call = spending.LlmCall(
        AttemptId(first.id),
        step_id(run_id, StepKey("a")),
        "default",
        directive,
        "stub",
        "m",
        USED,
        first.started_at,
        1.0,
    )
    with house.context.database.transaction() as tx:
        spending.insert_call(tx, run_id, replace(call, request_sha256=uuid4().hex))


def count(house: Runtime, table: str) -> int:
    """How many rows a table has."""
    with house.context.database.transaction() as tx:
        return int(tx.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())
