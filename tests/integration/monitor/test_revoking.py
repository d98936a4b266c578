"""A revoke by Flower or by ``celery control`` cancels the step: its command ends, and the record says who asked."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from agentflow.domain.ids import RunId, StepKey, step_id
from agentflow.engine.retry import retry
from agentflow.engine.verify import verify_run
from agentflow.runtime import Runtime
from tests.factories import attempt_rows, lines_of, shell_step, step_rows, submitted, wait_for, wait_for_end
from tests.integration.monitor.conftest import Watched
from tests.integration.monitor.flower import FlowerProcess
from tests.workers import WorkerProcess, environment_of, is_alive

LATE = {"max_attempts": 2, "base": "60s", "jitter": 0, "on_exit_codes": [75]}


@pytest.fixture
def house(watched: Watched) -> Runtime:
    """The module's installation."""
    return watched.house


@pytest.fixture
def flower(watched: Watched) -> FlowerProcess:
    """The Flower that watches it."""
    return watched.flower


@pytest.fixture
def watched_worker(watched: Watched) -> WorkerProcess:
    """The worker that serves it."""
    return watched.worker


def _sleeper(key: str, pids: Path) -> dict[str, Any]:
    """A step whose first attempt sleeps behind a child of its own; both write down their pids."""
    script = (
        f"[ $AGENTFLOW_ATTEMPT -eq 1 ] || exit 0; echo $$ >> {pids}; sh -c 'echo $$ >> {pids}; exec sleep 60' & wait"
    )
    return shell_step(key, script)


def _pids(path: Path) -> list[int]:
    wait_for(lambda: len(lines_of(path)) == 2)
    return [int(line) for line in lines_of(path)]


def _cancels(house: Runtime, run_id: RunId) -> list[tuple[str, str]]:
    with house.context.database.transaction() as tx:
        rows = tx.execute(
            text("SELECT actor, subject FROM audit_event WHERE run_id = :id AND action = 'cancel_step'"), {"id": run_id}
        )
        return [(row.actor, row.subject) for row in rows]


def _assert_cancelled(house: Runtime, run_id: RunId, key: str) -> None:
    assert wait_for_end(house.context, run_id) in ("failed", "partial")
    assert step_rows(house.context, run_id)[key].state == "cancelled"
    assert _cancels(house, run_id) == [("celery-control", f"step:{key}")]
    assert verify_run(house.context, run_id).is_intact


@pytest.mark.parametrize("terminate", [False, True])
def test_a_revoke_in_flower_ends_the_running_step_and_its_processes(
    house: Runtime, flower: FlowerProcess, watched_worker: WorkerProcess, tmp_path: Path, terminate: bool
) -> None:
    run_id = submitted(house.context, [_sleeper("work", tmp_path / "pids")])
    pids, task_id = _pids(tmp_path / "pids"), step_id(run_id, StepKey("work"))
    flower.revoke(task_id, terminate=terminate)
    _assert_cancelled(house, run_id, "work")
    assert not [pid for pid in pids if is_alive(pid)]
    assert [row.state for row in attempt_rows(house.context, run_id)] == ["cancelled"]
    flower.wait_for_state(task_id, "REVOKED")


def test_every_worker_hears_a_revoke_and_one_cancel_is_recorded(
    house: Runtime, flower: FlowerProcess, start_worker: Callable[..., WorkerProcess], tmp_path: Path
) -> None:
    flower.wait_until_it_hears(start_worker("-c", "1", AGENTFLOW_WORKER_EVENTS="true"))
    run_id = submitted(house.context, [_sleeper("work", tmp_path / "pids")])
    _pids(tmp_path / "pids")
    flower.revoke(step_id(run_id, StepKey("work")))
    _assert_cancelled(house, run_id, "work")


def test_a_step_revoked_in_the_queue_never_starts(
    house: Runtime, flower: FlowerProcess, watched_worker: WorkerProcess, tmp_path: Path
) -> None:
    blocks = f"echo x >> {tmp_path}/blocking; until [ -e {tmp_path}/go ]; do sleep 0.05; done"
    blocking = [shell_step(f"blocks{slot}", blocks) for slot in range(2)]
    run_id = submitted(house.context, [*blocking, shell_step("queued", f"echo x > {tmp_path}/ran")])
    wait_for(lambda: len(lines_of(tmp_path / "blocking")) == 2)
    task_id = step_id(run_id, StepKey("queued"))
    flower.revoke(task_id)
    wait_for(lambda: step_rows(house.context, run_id)["queued"].state == "cancelled")
    (tmp_path / "go").touch()
    _assert_cancelled(house, run_id, "queued")
    assert flower.wait_for_state(task_id, "REVOKED")["kwargs"] == repr({"step_id": "queued", "run_id": str(run_id)})
    assert not (tmp_path / "ran").exists()


def test_a_step_revoked_while_it_waits_for_its_retry_is_not_tried_again(
    house: Runtime, flower: FlowerProcess, watched_worker: WorkerProcess
) -> None:
    run_id = submitted(house.context, [shell_step("late", "exit 75", retry=LATE)])
    task_id = step_id(run_id, StepKey("late"))
    flower.wait_for_state(task_id, "RETRY")
    flower.revoke(task_id)
    _assert_cancelled(house, run_id, "late")
    flower.wait_for_state(task_id, "REVOKED")
    assert len(attempt_rows(house.context, run_id)) == 1


@pytest.mark.parametrize("command", [["revoke"], ["terminate", "KILL"]])
def test_celery_control_cancels_too(
    house: Runtime, watched_worker: WorkerProcess, tmp_path: Path, command: list[str]
) -> None:
    run_id = submitted(house.context, [_sleeper("work", tmp_path / "pids")])
    pids = _pids(tmp_path / "pids")
    answered = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "workers", "control", *command, str(step_id(run_id, StepKey("work")))],
        cwd=tmp_path,
        env=environment_of(house.settings, tmp_path),
        capture_output=True,
        text=True,
        check=False,
    )
    assert "cancelling 1 step" in answered.stdout, answered.stderr
    _assert_cancelled(house, run_id, "work")
    assert not [pid for pid in pids if is_alive(pid)]


def test_a_revoked_step_runs_again_after_a_retry_under_the_same_task_id(
    house: Runtime, flower: FlowerProcess, watched_worker: WorkerProcess, tmp_path: Path
) -> None:
    run_id = submitted(
        house.context, [_sleeper("work", tmp_path / "pids"), shell_step("after", "true", needs=["work"])]
    )
    _pids(tmp_path / "pids")
    task_id = step_id(run_id, StepKey("work"))
    flower.revoke(task_id, terminate=True)
    _assert_cancelled(house, run_id, "work")
    flower.wait_for_state(task_id, "REVOKED")
    retry(house.context, run_id, "tester@test")
    assert wait_for_end(house.context, run_id) == "completed"
    assert flower.wait_for_state(task_id, "SUCCESS")["revoked"] is not None
    assert [row.state for row in attempt_rows(house.context, run_id, "work")] == ["cancelled", "succeeded"]


def test_a_revoke_of_what_is_no_step_harms_nobody(
    house: Runtime, flower: FlowerProcess, watched_worker: WorkerProcess
) -> None:
    before = len(watched_worker.output())
    flower.revoke("not-a-uuid")
    flower.revoke(uuid4())
    run_id = submitted(house.context, [shell_step("work", "true")])
    assert wait_for_end(house.context, run_id) == "completed"
    flower.revoke(step_id(run_id, StepKey("work")))
    again = submitted(house.context, [shell_step("work", "true")])
    assert wait_for_end(house.context, again) == "completed"
    assert step_rows(house.context, run_id)["work"].state == "succeeded"
    assert _cancels(house, run_id) == []
    assert "Traceback" not in watched_worker.output()[before:]
