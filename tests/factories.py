"""Plans and runs for tests, built on each other: a plan from bare needs, a submitted run, a run that has ended."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from sqlalchemy import text

from agentflow.domain.ids import RunId, StepKey, step_id
from agentflow.domain.plan import Plan
from agentflow.domain.plan_document import read_plan
from agentflow.domain.state import FINAL_RUN_STATES, RunState
from agentflow.engine.context import EngineContext
from agentflow.engine.execute import Doorbell, execute
from agentflow.engine.submit import SubmitRequest, submit
from agentflow.executors.base import known_actions
from agentflow.runtime import Runtime

FINAL = {state.value for state in FINAL_RUN_STATES}


def command_step(key: str, *command: str, needs: Sequence[str] = (), **fields: Any) -> dict[str, Any]:
    """A subprocess step as a plan document writes it."""
    extra = {name: fields.pop(name) for name in ("env", "stdin", "cwd", "ok_exit_codes") if name in fields}
    return {"id": key, "needs": list(needs), "subprocess": {"command": list(command), **extra}, **fields}


def shell_step(key: str, script: str, needs: Sequence[str] = (), **fields: Any) -> dict[str, Any]:
    """A subprocess step that runs a shell script."""
    return command_step(key, "/bin/sh", "-c", script, needs=needs, **fields)


def noop_step(key: str, needs: Sequence[str] = (), **fields: Any) -> dict[str, Any]:
    """A step that does nothing."""
    return {"id": key, "needs": list(needs), "noop": {}, **fields}


def document(steps: Sequence[Mapping[str, Any]], **fields: Any) -> dict[str, Any]:
    """A plan document."""
    return {"agentflow": 1, "name": "tested", "steps": [dict(step) for step in steps], **fields}


def submitted(context: EngineContext, steps: Sequence[Mapping[str, Any]], **fields: Any) -> RunId:
    """Submit a plan of these steps."""
    plan, content = planned(steps, **fields)
    request = SubmitRequest(plan=plan, vars={}, project="default", actor="tester@test", content=content, files={})
    return submit(context, request).run_id


def planned(steps: Sequence[Mapping[str, Any]], **fields: Any) -> tuple[Plan, Mapping[str, bytes]]:
    """Read a plan of these steps; its faults are the error."""
    reading = read_plan(document(steps, **fields), available_actions=known_actions())
    assert reading.plan is not None, reading.faults
    return reading.plan, reading.content


def work_off(runtime: Runtime, run_id: RunId) -> RunState:
    """Answer the doorbells of a run in this process, one after the other, until it rests; for what needs no worker."""
    while True:
        ready = [row.key for row in step_rows(runtime.context, run_id).values() if row.state == "ready"]
        if not ready:
            return run_state(runtime.context, run_id)
        for key in ready:
            execute(runtime.context, runtime.lease_keeper, Doorbell(run_id, StepKey(key)), "test:0")


def run_state(context: EngineContext, run_id: RunId) -> RunState:
    """The stored state of a run."""
    with context.database.transaction() as tx:
        return RunState(tx.execute(text("SELECT state FROM run_state WHERE run_id = :id"), {"id": run_id}).scalar_one())


def wait_for_end(context: EngineContext, run_id: RunId, timeout_seconds: float = 30) -> RunState:
    """Wait until a run has ended."""
    return RunState(
        wait_for(lambda: found if (found := run_state(context, run_id)) in FINAL else None, timeout_seconds)
    )


def wait_for(probe: Any, timeout_seconds: float = 30) -> Any:
    """Wait until a probe gives something; polled, since what is waited for is a state in another process."""
    deadline = time.monotonic() + timeout_seconds
    while not (found := probe()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_seconds} s in vain")
        time.sleep(0.02)
    return found


def step_rows(context: EngineContext, run_id: RunId) -> dict[str, Any]:
    """The step rows of a run by key."""
    with context.database.transaction() as tx:
        rows = tx.execute(text("SELECT * FROM step WHERE run_id = :id ORDER BY position"), {"id": run_id}).all()
    return {row.key: row for row in rows}


def attempt_rows(context: EngineContext, run_id: RunId, key: str | None = None) -> list[Any]:
    """The attempt rows of a run, or of one step, in order."""
    with context.database.transaction() as tx:
        rows = tx.execute(
            text("SELECT * FROM attempt WHERE run_id = :id ORDER BY started_at, number"), {"id": run_id}
        ).all()
    wanted = step_id(run_id, StepKey(key)) if key else None
    return [row for row in rows if wanted in (None, row.step_id)]


def fresh_run_id() -> RunId:
    """An id that no run has."""
    return RunId(uuid4())


def lines_of(path: Path) -> list[str]:
    """The lines of a file that steps append to; none before it is there."""
    return path.read_text(encoding="utf-8").splitlines() if path.exists() else []
