"""A run meets three gates while all that serves it is restarted: what people said stands, and nothing is asked twice.

The first gate needs two of three people, the second expires, the third is rejected and asked again after a retry.
Between the decisions the worker is killed, Redis comes back empty and Postgres goes down at once.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sqlalchemy import text

from agentflow import AgentFlow, Plan
from agentflow.domain.ids import RunId
from agentflow.domain.state import RunState
from agentflow.embedded import EmbeddedPostgres
from agentflow.engine.verify import verify_run
from agentflow.runtime import Runtime
from tests.factories import document, lines_of, run_state, shell_step, step_rows, wait_for, wait_for_end
from tests.faults.servers import FaultyRedis, FaultyServer
from tests.workers import WorkerProcess

ROUNDS = """
    SELECT step.key, gate.round, gate.state FROM gate JOIN step ON step.id = gate.step_id ORDER BY gate.opened_at"""
SECONDS = 60
"""How long a step of the way may take on a busy machine."""


def _as(house: Runtime, actor: str) -> AgentFlow:
    return AgentFlow(house.settings.model_copy(update={"actor": actor}))


def _say(house: Runtime, actor: str, run_id: RunId, gate: str, *, rejects: bool = False, **form: str) -> str:
    with _as(house, actor) as flow:
        said = flow.reject(run_id, gate, why="not yet") if rejects else flow.approve(run_id, gate, form=form)
    return str(said.state)


def _wait_at(house: Runtime, run_id: RunId, gate: str, **detail: Any) -> None:
    """Wait until the run waits at a gate, as all its surfaces show it."""

    def is_there() -> bool:
        row = step_rows(house.context, run_id)[gate]
        found = (row.reason or {}).get("detail", {})
        return row.state == "held" and all(found.get(name) == value for name, value in detail.items())

    wait_for(is_there, SECONDS)
    with _as(house, "anybody") as flow:
        assert flow.get(str(run_id)).state == "waiting"
        assert [view.step for view in flow.gates(run_id)] == [gate]


def _plan(log: Path) -> dict[str, Any]:
    def says(key: str, *needs: str) -> dict[str, Any]:
        return shell_step(key, f"echo {key} $REGION >> {log}", needs=needs, env={"REGION": "{{ vars.region }}"})

    people = {"approvers": ["ana", "ben", "cleo"], "count": 2, "form": {"region": {"one_of": ["eu", "us"]}}}
    expiring = {"expires": "4s", "on_expiry": "approve", "approvers": ["nobody"]}
    return document(
        [
            shell_step("build", f"echo build >> {log}"),
            {"id": "some", "needs": ["build"], "approval": people},
            says("stage", "some"),
            {"id": "late", "needs": ["stage"], "approval": expiring},
            says("canary", "late"),
            {"id": "last", "needs": ["canary"], "approval": {"kind": "safety", "approvers": ["ana"]}},
            says("deploy", "last"),
        ]
    )


def test_three_gates_with_worker_redis_and_postgres_restarted_in_between(
    house: Runtime,
    own_redis: FaultyRedis,
    own_postgres: FaultyServer[EmbeddedPostgres],
    start_worker: Callable[..., WorkerProcess],
    tmp_path: Path,
) -> None:
    log, worker = tmp_path / "log", start_worker()
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(_plan(log)), encoding="utf-8")
    with _as(house, "dora") as flow:
        run_id = RunId(flow.submit(Plan.load(path)).uuid)

    _wait_at(house, run_id, "some", given=0, count=2)
    worker.kill()
    assert _say(house, "ana", run_id, "some", region="eu") == "open"
    own_redis.kill()
    own_redis.wipe()
    own_redis.start()
    worker = start_worker()
    _wait_at(house, run_id, "some", given=1, count=2)
    assert _say(house, "cleo", run_id, "some") == "approved"

    wait_for(lambda: step_rows(house.context, run_id)["late"].state != "pending", SECONDS)
    own_postgres.kill(signal.SIGQUIT)
    own_postgres.start()
    house.context.database.engine.dispose()  # a connection that broke is told once to whoever uses it
    wait_for(lambda: step_rows(house.context, run_id)["late"].state == "succeeded", SECONDS)
    assert step_rows(house.context, run_id)["late"].result["approved_by"] == ["expiry"]

    _wait_at(house, run_id, "last", given=0, count=1)
    worker.kill()
    assert _say(house, "ana", run_id, "last", rejects=True) == "rejected"
    assert run_state(house.context, run_id) is RunState.FAILED
    own_redis.flush()
    with _as(house, "dora") as flow:
        flow.retry(run_id)
    _wait_at(house, run_id, "last", given=0, count=1)
    assert _say(house, "ana", run_id, "last") == "approved"
    start_worker()

    assert wait_for_end(house.context, run_id, SECONDS) is RunState.COMPLETED
    assert lines_of(log) == ["build", "stage eu", "canary eu", "deploy eu"]
    assert verify_run(house.context, run_id).findings == ()
    with house.context.database.transaction() as tx:
        rounds = tx.execute(text(ROUNDS)).all()
    assert [tuple(row) for row in rounds] == [
        ("some", 1, "approved"),
        ("late", 1, "approved"),
        ("last", 1, "rejected"),
        ("last", 2, "approved"),
    ]
