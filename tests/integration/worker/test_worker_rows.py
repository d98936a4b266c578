"""What the list of workers says follows what workers do; a dispatcher that belongs to no worker is none."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from agentflow.runtime import Runtime
from agentflow.storage import workers
from agentflow.storage.workers import WorkerState, WorkerTold, WorkerView
from agentflow.worker.beside import READY, end_dispatcher, start_dispatcher, wait_for_word
from tests.factories import lines_of, shell_step, submitted, wait_for
from tests.workers import WorkerProcess, environment_of

Start = Callable[..., WorkerProcess]


def _workers(house: Runtime) -> dict[str, WorkerView]:
    with house.context.database.transaction() as tx:
        return {worker.name.partition("@")[0]: worker for worker in workers.view_workers(tx)}


def _one(house: Runtime, worker: WorkerProcess, **fields: Any) -> WorkerView:
    """The worker's row once its fields are these."""

    def found() -> WorkerView | None:
        row = _workers(house).get(worker.name)
        return row if row and all(getattr(row, name) == value for name, value in fields.items()) else None

    row: WorkerView = wait_for(found)
    return row


def test_a_worker_is_listed_with_what_it_serves_takes_and_runs_until_it_ends(
    house: Runtime, start_worker: Start, tmp_path: Path
) -> None:
    worker = start_worker("-c", "3", "-P", "threads", "-Q", "commands,control")
    told = _one(house, worker, state=WorkerState.ALIVE)
    assert (told.pid, told.pool, told.slots, told.queues) == (worker.pid, "threads", 3, ("commands", "control"))
    assert (told.consumed, told.consumed_at, told.work) == (0, None, ())
    assert abs((told.seen_at - told.started_at).total_seconds()) < 20
    assert (told.cpu_seconds or 0) > 0
    assert (told.resident_bytes or 0) > 32 << 20

    marker = tmp_path / "marker"
    run_id = submitted(house.context, [shell_step("a", f"echo a >> {marker}; sleep 3")])
    wait_for(lambda: lines_of(marker))
    (running,) = _workers(house)[worker.name].work
    assert (running.run_id, running.step, running.attempt) == (run_id, "a", 1)
    worker.send(signal.SIGTERM)
    assert _one(house, worker, state=WorkerState.DRAINING).work
    worker.process.wait(30)

    ended = _one(house, worker, state=WorkerState.ENDED)
    assert ended.consumed == 1
    assert ended.consumed_at is not None
    assert ended.started_at == told.started_at


def test_queues_that_are_added_and_cancelled_by_remote_control_are_told(house: Runtime, start_worker: Start) -> None:
    worker = start_worker("-c", "1", "-Q", "control")
    _one(house, worker, queues=("control",))

    house.celery.control.add_consumer("models")
    _one(house, worker, queues=("control", "models"))
    house.celery.control.cancel_consumer("control")
    _one(house, worker, queues=("models",))


def test_a_killed_worker_is_gone_once_it_has_been_silent_and_one_of_its_name_begins_anew(
    house: Runtime, start_worker: Start
) -> None:
    worker = start_worker("-c", "1")
    told = _one(house, worker)
    worker.kill()
    with house.context.database.transaction() as tx:
        tx.exec_driver_sql(
            "UPDATE worker SET seen_at = seen_at - interval '1 m', started_at = started_at - interval '1 h'"
        )

    assert _workers(house)[worker.name].state is WorkerState.GONE
    again = WorkerTold(told.name, told.pid, "0", "solo", 1, ("models",), 0.5, 0, None, is_draining=False)
    with house.context.database.transaction() as tx:
        workers.see(tx, again)
    begun = _workers(house)[worker.name]
    assert (begun.state, begun.queues) == (WorkerState.ALIVE, ("models",))
    assert (begun.seen_at - begun.started_at).total_seconds() < 2  # the same process id, as in a container


def test_workers_that_are_long_gone_are_forgotten(house: Runtime) -> None:
    with house.context.database.transaction() as tx:
        for name in ("old@host", "late@host"):
            workers.see(tx, WorkerTold(name, 1, "0", "solo", 1, (), 0.5, 0, None, is_draining=False))
        tx.exec_driver_sql("UPDATE worker SET seen_at = now() - interval '8 days' WHERE name = 'old@host'")
        workers.forget_old(tx)

    assert set(_workers(house)) == {"late"}


def test_a_dispatcher_whose_owner_tells_nothing_is_no_worker_and_bad_lines_do_it_no_harm(
    house: Runtime, tmp_path: Path, monkeypatch: Any
) -> None:
    for name, value in environment_of(house.settings, tmp_path).items():
        monkeypatch.setenv(name, value)
    process = start_dispatcher("beat@host")
    try:
        assert wait_for_word(process) == READY
        assert process.stdin is not None
        process.stdin.write('{"queues": 1}\nno json\n')
        process.stdin.flush()
        told: dict[str, Any] = {
            "pid": os.getpid(),
            "pool": "solo",
            "concurrency": 1,
            "queues": [],
            "up_seconds": 1.0,
            "consumed": 0,
        }
        assert _workers(house) == {}
        told |= {"consumed_seconds_ago": 1.5, "is_draining": False, "has_ended": False}
        process.stdin.write(json.dumps(told) + "\n")
        process.stdin.flush()
        wait_for(lambda: "beat" in _workers(house))
    finally:
        end_dispatcher(process)
    assert process.returncode == 0
