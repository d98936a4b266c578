"""Flower shows of every step what the record shows, also where no message of the step is there to tell it."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from agentflow.broker import dispatch
from agentflow.domain.ids import RunId, StepId, StepKey, step_id
from agentflow.engine.cancel import cancel
from agentflow.engine.context import PlanView
from agentflow.engine.pause import pause
from agentflow.engine.resume import resume
from agentflow.engine.retry import retry
from agentflow.runtime import Runtime
from agentflow.storage import runs
from tests.factories import lines_of, noop_step, shell_step, step_rows, submitted, wait_for, wait_for_end
from tests.integration.monitor.conftest import SECRET, Watched
from tests.integration.monitor.flower import FlowerProcess
from tests.workers import WorkerProcess

FLAKY = {"max_attempts": 3, "base": "700ms", "jitter": 0, "on_exit_codes": [75]}
WHEN_TOLD = {"SUCCESS": "succeeded", "FAILURE": "failed", "RETRY": "retried"}
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


def _id(run_id: RunId, key: str) -> StepId:
    return step_id(run_id, StepKey(key))


def _wait_for_step(house: Runtime, run_id: RunId, key: str, state: str) -> None:
    wait_for(lambda: step_rows(house.context, run_id)[key].state == state)


def _ring_again(house: Runtime, run_id: RunId, key: str, retries: int = 0) -> None:
    with house.context.database.transaction() as tx:
        plan: PlanView = house.context.plans.get(tx, runs.read_plan_fingerprint(tx, run_id))
    dispatch.send(house.celery, [plan.bells(run_id, StepKey(key), 1, retries)])


def _told_after(flower: FlowerProcess, before: dict[str, Any], what: str) -> dict[str, Any]:
    """What Flower shows of a task once it was told again."""
    told: dict[str, Any] = wait_for(
        lambda: found if (found := flower.tasks()[before["uuid"]])[what] > before[what] else None
    )
    return told


def _shown(task: dict[str, Any]) -> dict[str, Any]:
    return {
        name: task[name] for name in ("name", "kwargs", "state", "retries", "result", "exception", "runtime", "root_id")
    }


def test_a_step_is_shown_by_its_action_with_run_and_step_as_kwargs(house: Runtime, flower: FlowerProcess) -> None:
    run_id = submitted(house.context, [shell_step("collect", "echo hi"), noop_step("join", needs=["collect"])])
    assert wait_for_end(house.context, run_id) == "completed"
    collect = flower.wait_for_state(_id(run_id, "collect"), "SUCCESS")
    join = flower.wait_for_state(_id(run_id, "join"), "SUCCESS")
    assert (collect["name"], join["name"]) == ("agentflow.subprocess", "agentflow.noop")
    assert collect["kwargs"] == repr({"step_id": "collect", "run_id": str(run_id)})
    assert (collect["args"], collect["result"], collect["retries"]) == ("()", "None", 0)
    assert {collect["root_id"], join["root_id"]} == {str(run_id)}
    assert join["parent_id"] == collect["uuid"]
    shown = [key for key, task in flower.tasks().items() if str(run_id) in (task["root_id"] or "") + task["kwargs"]]
    assert sorted(shown) == sorted([collect["uuid"], join["uuid"]])


def test_a_step_that_is_tried_again_shows_its_retries(house: Runtime, flower: FlowerProcess, tmp_path: Path) -> None:
    script = f"echo x >> {tmp_path}/tries; [ $AGENTFLOW_ATTEMPT -ge 3 ] || exit 75"
    run_id = submitted(house.context, [shell_step("flaky", script, retry=FLAKY)])
    waiting = flower.wait_for_state(_id(run_id, "flaky"), "RETRY")
    assert waiting["exception"] == "StepFailed('exited with code 75')"
    assert wait_for_end(house.context, run_id) == "completed"
    done = flower.wait_for_state(_id(run_id, "flaky"), "SUCCESS")
    assert done["retries"] == 2
    assert done["root_id"] == str(run_id)
    assert len(lines_of(tmp_path / "tries")) == 3


def test_a_failed_step_shows_why_and_nothing_that_it_wrote(house: Runtime, flower: FlowerProcess) -> None:
    step = shell_step(
        "fail", 'echo "the output $T"; echo "the output $T" >&2; exit 3', env={"T": "{{ secrets.TOKEN }}"}
    )
    run_id = submitted(house.context, [step], secrets=["TOKEN"])
    assert wait_for_end(house.context, run_id) == "failed"
    failed = flower.wait_for_state(_id(run_id, "fail"), "FAILURE")
    assert failed["exception"] == "StepFailed('exited with code 3')"
    said = json.dumps([flower.tasks(), failed, flower.ask(f"/task/{_id(run_id, 'fail')}")])
    assert SECRET not in said
    assert "the output" not in said


def test_cancelling_a_run_revokes_what_runs_and_what_is_queued(house: Runtime, flower: FlowerProcess) -> None:
    sleeping = [shell_step(f"s{number}", "sleep 60") for number in range(2)]
    run_id = submitted(house.context, [*sleeping, shell_step("queued", "true"), noop_step("never", needs=["s0"])])
    for step in ("s0", "s1"):
        flower.wait_for_state(_id(run_id, step), "STARTED")
    cancel(house.context, run_id, "tester@test")
    assert wait_for_end(house.context, run_id) == "cancelled"
    for step in ("s0", "s1", "queued"):
        assert flower.wait_for_state(_id(run_id, step), "REVOKED")["name"].startswith("agentflow.")
    assert flower.task(_id(run_id, "never")) is None, "no message ever told of it"


def test_a_step_cancelled_while_it_waits_for_its_retry_is_revoked(house: Runtime, flower: FlowerProcess) -> None:
    run_id = submitted(house.context, [shell_step("late", "exit 75", retry=LATE)])
    flower.wait_for_state(_id(run_id, "late"), "RETRY")
    cancel(house.context, run_id, "tester@test")
    revoked = flower.wait_for_state(_id(run_id, "late"), "REVOKED")
    assert revoked["kwargs"] == repr({"step_id": "late", "run_id": str(run_id)})


def test_what_a_failing_run_skips_is_revoked(house: Runtime, flower: FlowerProcess, tmp_path: Path) -> None:
    blocked = f"until [ -e {tmp_path}/go ]; do sleep 0.05; done; exit 1"
    steps = [
        shell_step("late", "exit 75", retry=LATE),
        shell_step("blocked", blocked),
        shell_step("holds", "sleep 3"),
        shell_step("queued", "true"),
    ]
    run_id = submitted(house.context, steps)
    flower.wait_for_state(_id(run_id, "late"), "RETRY")
    flower.wait_for_state(_id(run_id, "holds"), "STARTED")
    (tmp_path / "go").touch()
    assert wait_for_end(house.context, run_id) == "failed"
    assert flower.wait_for_state(_id(run_id, "late"), "REVOKED")
    assert flower.wait_for_state(_id(run_id, "queued"), "REVOKED"), "its doorbell rang after it was skipped"


def test_a_refused_duplicate_changes_nothing(
    house: Runtime, flower: FlowerProcess, watched_worker: WorkerProcess
) -> None:
    steps = [
        shell_step("done", "true"),
        shell_step("bad", "exit 4", needs=["done"], on_failure="continue"),
        shell_step("late", "exit 75", needs=["done"], retry=LATE, on_failure="continue"),
    ]
    run_id = submitted(house.context, steps)
    for key, state in {"done": "SUCCESS", "bad": "FAILURE", "late": "RETRY"}.items():
        before = flower.wait_for_state(_id(run_id, key), state)
        _ring_again(house, run_id, key)
        after = _told_after(flower, before, WHEN_TOLD[state])
        assert _shown(after) == _shown(before)
    refused = [line for line in watched_worker.output().splitlines() if "claim_refused" in line and str(run_id) in line]
    assert len(refused) == 3
    cancel(house.context, run_id, "tester@test")


def test_a_failed_step_that_is_taken_up_again_is_shown_running_and_then_done(
    house: Runtime, flower: FlowerProcess, tmp_path: Path
) -> None:
    script = f"[ $AGENTFLOW_ATTEMPT -ge 2 ] || exit 3; until [ -e {tmp_path}/go ]; do sleep 0.05; done"
    run_id = submitted(house.context, [shell_step("work", script)])
    flower.wait_for_state(_id(run_id, "work"), "FAILURE")
    assert wait_for_end(house.context, run_id) == "failed"
    retry(house.context, run_id, "tester@test")
    flower.wait_for_state(_id(run_id, "work"), "STARTED")
    (tmp_path / "go").touch()
    flower.wait_for_state(_id(run_id, "work"), "SUCCESS")
    assert wait_for_end(house.context, run_id) == "completed"


def test_a_step_that_a_hard_pause_gives_back_is_shown_waiting_and_then_done(
    house: Runtime, flower: FlowerProcess, watched_worker: WorkerProcess
) -> None:
    run_id = submitted(house.context, [shell_step("work", "[ $AGENTFLOW_ATTEMPT -ge 2 ] || exec sleep 60")])
    _wait_for_step(house, run_id, "work", "running")
    pause(house.context, run_id, "tester@test", is_hard=True)
    waiting = flower.wait_for_state(_id(run_id, "work"), "RETRY")
    assert "paused by tester@test" in waiting["exception"]
    resume(house.context, run_id, "tester@test")
    flower.wait_for_state(_id(run_id, "work"), "SUCCESS")
    assert wait_for_end(house.context, run_id) == "completed"


def test_a_step_whose_pool_child_is_killed_never_shows_as_failed(
    house: Runtime, flower: FlowerProcess, watched_worker: WorkerProcess, tmp_path: Path
) -> None:
    script = f"echo $PPID > {tmp_path}/supervisor; [ $AGENTFLOW_ATTEMPT -ge 2 ] || sleep 60"
    run_id = submitted(house.context, [shell_step("work", script)])
    flower.wait_for_state(_id(run_id, "work"), "STARTED")
    supervisor = int(wait_for(lambda: lines_of(tmp_path / "supervisor"))[0])
    pool_child = int(Path(f"/proc/{supervisor}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[1])
    os.kill(pool_child, signal.SIGKILL)
    lost = flower.wait_for_state(_id(run_id, "work"), "RETRY")
    assert "lost its worker" in lost["exception"]
    done = flower.wait_for_state(_id(run_id, "work"), "SUCCESS")
    assert done["retries"] == 1
    assert wait_for_end(house.context, run_id) == "completed"


def test_a_lost_step_that_waits_for_a_person_is_shown_waiting(
    house: Runtime, flower: FlowerProcess, watched_worker: WorkerProcess
) -> None:
    kills_its_worker = "kill -9 $(awk '{print $4}' /proc/$PPID/stat); sleep 30"
    run_id = submitted(house.context, [shell_step("careful", kills_its_worker, on_lost="hold", retry=1)])
    _wait_for_step(house, run_id, "careful", "held")
    assert "waits for a person" in flower.wait_for_state(_id(run_id, "careful"), "RETRY")["exception"]


def test_a_doorbell_that_cannot_be_handled_is_shown_waiting_and_says_nothing_of_the_database(
    house: Runtime, flower: FlowerProcess, watched_worker: WorkerProcess
) -> None:
    _administrate(house, "ALTER TABLE attempt RENAME TO hidden_attempt")
    run_id = submitted(house.context, [shell_step("work", "true")])
    waiting = flower.wait_for_state(_id(run_id, "work"), "RETRY")
    assert waiting["exception"] == "StepFailed('met ProgrammingError')"
    assert "INSERT" not in json.dumps(waiting)
    _administrate(house, "ALTER TABLE hidden_attempt RENAME TO attempt")
    assert wait_for_end(house.context, run_id) == "completed"
    flower.wait_for_state(_id(run_id, "work"), "SUCCESS")


def _administrate(house: Runtime, statement: str) -> None:
    with house.context.database.transaction() as tx:
        tx.execute(text(statement))


def test_the_brokers_password_is_shown_nowhere(
    house: Runtime, flower: FlowerProcess, watched_worker: WorkerProcess
) -> None:
    password = house.servers.redis_url.split("@")[0].rsplit(":", 1)[1]
    assert len(password) > 8
    workers = wait_for(lambda: flower.ask("/api/workers?refresh=true"))
    assert password not in json.dumps(workers)
    assert password not in flower.ask("/broker")
    assert password not in flower.output()
    argv = Path(f"/proc/{flower.process.pid}/cmdline").read_bytes().decode()
    assert password not in argv


def test_a_snoozed_step_is_shown_as_retried_until_its_time_and_revoked_when_cancelled(
    house: Runtime, flower: FlowerProcess
) -> None:
    rate = {"rate_limit": {"key": "api", "limit": "1/m"}}
    first = submitted(house.context, [noop_step("first", **rate)])
    flower.wait_for_state(_id(first, "first"), "SUCCESS")
    run_id = submitted(house.context, [noop_step("second", **rate)])
    snoozed = flower.wait_for_state(_id(run_id, "second"), "RETRY")
    until = step_rows(house.context, run_id)["second"].reason["detail"]["until"]
    assert snoozed["exception"] == f"StepFailed('waits for the rate limit api until {until}')"
    assert snoozed["retries"] == 0

    cancel(house.context, run_id, "tester@test")

    flower.wait_for_state(_id(run_id, "second"), "REVOKED")
