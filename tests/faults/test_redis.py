"""Redis forgets, goes away, comes back with old data, is full, freezes: runs complete, limits hold, workers go on.

| fault | test |
|---|---|
| FLUSHALL, again and again in mid-run | `test_a_redis_that_forgets_again_and_again_...` |
| FLUSHALL between the note and the send, and right after the send | `test_a_flush_around_a_send_...` |
| killed, and started again empty | `test_a_redis_that_restarts_empty_...` |
| stopped, and started again with the data of a moment ago | `test_old_messages_and_an_old_ledger_...` |
| full | `test_a_full_redis_...` |
| read-only, as after a failover | `test_a_redis_that_takes_nothing_...` |
| frozen | `test_a_frozen_redis_...` |
| every connection cut, again and again | `test_connections_that_are_cut_...` |
| a worker frozen between the broker's pop and its own record, then killed | `test_a_message_that_was_popped_...` |
| a dispatcher killed with reports in its hands | `test_a_report_outlives_...` |

An outage of a minute is in benchmarks/chaos.py.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from agentflow.broker import dispatch as broker
from agentflow.broker.dispatch import queue_depths
from agentflow.broker.queues import COMMANDS, CONTROL
from agentflow.domain.ids import StepKey, step_id
from agentflow.domain.state import AttemptState, RunState
from agentflow.embedded import EmbeddedValkey, ServerUrls
from agentflow.engine.cancel import cancel
from agentflow.engine.dispatcher import Dispatcher
from agentflow.runtime import Runtime
from tests.factories import (
    attempt_rows,
    lines_of,
    noop_step,
    run_state,
    shell_step,
    step_rows,
    submitted,
    wait_for,
    wait_for_end,
)
from tests.faults.conftest import own_home
from tests.faults.servers import FaultyRedis
from tests.faults.traffic import (
    ATTEMPTS,
    BACK_SECONDS,
    assert_at_rest,
    assert_whole,
    keys_without_owner,
    mixed_steps,
)
from tests.integration.engine.conftest import _opened
from tests.workers import WorkerProcess

Start = Callable[..., WorkerProcess]
EXACTLY = {"steps": ATTEMPTS}
"""A cap that leaves nothing over: whoever counts an attempt twice ends the run as exhausted."""


@dataclass(frozen=True)
class Station:
    """An installation on a Redis of the module's own, and the worker that lives through all that is done to it."""

    house: Runtime
    redis: FaultyRedis
    worker: WorkerProcess
    processes: frozenset[int]

    def assert_not_restarted(self) -> None:
        """The main process, its pool children and its dispatcher are those of the start."""
        assert self.worker.process.poll() is None, self.worker.output()[-3000:]
        assert self.processes <= set(self.worker.processes())


@pytest.fixture(scope="module")
def _station(servers: ServerUrls, template: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Station]:
    with own_home() as home, EmbeddedValkey(Path(home), fsync=False) as server:
        urls = ServerUrls(servers.database_url, server.url)
        with _opened(urls, template, tmp_path_factory.mktemp("station"), "-c", "4") as opened:
            processes = frozenset(opened.worker.processes())
            faulty = FaultyRedis(server)
            yield Station(opened.house, faulty, opened.worker, processes)
            faulty.mend()


@pytest.fixture
def station(_station: Station) -> Iterator[Station]:
    """The module's station; at the end of each test its Redis is whole and its worker the one of the start."""
    yield _station
    _station.redis.mend()
    _station.redis.empty()
    _station.assert_not_restarted()


def test_a_redis_that_forgets_again_and_again_costs_time_only(station: Station, tmp_path: Path) -> None:
    house, redis = station.house, station.redis
    marker = tmp_path / "marker"
    run_id = submitted(house.context, mixed_steps(marker), budget=EXACTLY)
    for lines in range(1, 15, 2):
        wait_for(lambda lines=lines: len(lines_of(marker)) >= lines)
        redis.flush()

    assert_whole(house, run_id, marker)
    assert keys_without_owner(house) == []


def test_a_redis_that_restarts_empty_is_served_again_by_the_same_processes(station: Station, tmp_path: Path) -> None:
    house, redis = station.house, station.redis
    marker = tmp_path / "marker"
    run_id = submitted(house.context, mixed_steps(marker), budget=EXACTLY)
    wait_for(lambda: len(lines_of(marker)) >= 5)

    redis.kill()
    during = submitted(house.context, [noop_step("one")])  # is safe, and goes out later
    redis.wipe()
    redis.start()

    assert_whole(house, run_id, marker)
    assert wait_for_end(house.context, during, BACK_SECONDS) is RunState.COMPLETED


def test_old_messages_and_an_old_ledger_that_come_back_are_not_believed(station: Station, tmp_path: Path) -> None:
    """The ledger of a moment ago says that less was used; the messages are of steps that ended since."""
    house, redis = station.house, station.redis
    marker, cap = tmp_path / "marker", 12
    steps = [shell_step(f"w{i}", f"echo w{i} >> {marker}; sleep 0.3", needs=[]) for i in range(20)]
    run_id = submitted(house.context, steps, budget={"steps": cap})
    wait_for(lambda: len(lines_of(marker)) >= 3)
    redis.keep_data(tmp_path / "kept")
    wait_for(lambda: len(lines_of(marker)) >= 9)

    redis.kill()
    redis.put_back(tmp_path / "kept")
    redis.start()

    wait_for(lambda: _exhausted(house, run_id), 2 * BACK_SECONDS)
    witness = submitted(house.context, [shell_step("witness", "true")])  # behind all the old messages
    assert wait_for_end(house.context, witness) is RunState.COMPLETED
    wait_for(lambda: len(_spent(house, run_id)) == cap)
    assert sorted(set(lines_of(marker))) == sorted(lines_of(marker))
    assert len(lines_of(marker)) == cap
    assert_at_rest(house)


def _exhausted(house: Runtime, run_id: Any) -> Any:
    with house.context.database.transaction() as tx:
        return tx.execute(text("SELECT exhausted FROM run_state WHERE run_id = :id"), {"id": run_id}).scalar_one()


def _spent(house: Runtime, run_id: Any) -> list[Any]:
    return [row for row in attempt_rows(house.context, run_id) if row.state == AttemptState.SUCCEEDED]


def test_a_full_redis_refuses_senders_and_ends_no_worker(station: Station, tmp_path: Path) -> None:
    house, redis = station.house, station.redis
    marker = tmp_path / "marker"
    stubborn = submitted(house.context, [shell_step("long", "sleep 60")])
    run_id = submitted(house.context, mixed_steps(marker), budget=EXACTLY)
    wait_for(lambda: len(lines_of(marker)) >= 5 and attempt_rows(house.context, stubborn))

    redis.fill()
    during = submitted(house.context, [noop_step("one")])
    cancel(house.context, stubborn, "tester@test")
    assert wait_for_end(house.context, stubborn) is RunState.CANCELLED  # needs no room in Redis
    redis.cut_all()
    wait_for(lambda: _is_served(redis))
    assert run_state(house.context, during) is RunState.RUNNING
    redis.empty()

    assert_whole(house, run_id, marker)
    assert wait_for_end(house.context, during, BACK_SECONDS) is RunState.COMPLETED


def test_a_redis_that_takes_nothing_for_a_while_ends_no_worker(station: Station, tmp_path: Path) -> None:
    """Read-only, as the old primary after a failover: it refuses even to hand messages out."""
    house, redis, marker = station.house, station.redis, tmp_path / "marker"
    run_id = submitted(house.context, mixed_steps(marker), budget=EXACTLY)
    wait_for(lambda: len(lines_of(marker)) >= 5)
    heard = len(station.worker.output())

    with redis.client() as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        wait_for(lambda: station.worker.output()[heard:].count("ReadOnlyError") >= 3)
        client.execute_command("REPLICAOF", "NO", "ONE")

    assert_whole(house, run_id, marker)


def test_a_frozen_redis_holds_nobody_up_for_long(station: Station, tmp_path: Path) -> None:
    house, redis = station.house, station.redis
    marker = tmp_path / "marker"
    stubborn = submitted(house.context, [shell_step("long", "sleep 60")])
    run_id = submitted(house.context, mixed_steps(marker), budget=EXACTLY)
    wait_for(lambda: len(lines_of(marker)) >= 5 and attempt_rows(house.context, stubborn))

    with redis.frozen():
        began = time.monotonic()
        during = [submitted(house.context, [noop_step(f"s{i}", needs=[]) for i in range(20)]) for _ in range(3)]
        cancel(house.context, stubborn, "tester@test")
        assert time.monotonic() - began < 12  # of which the first waits for three answers of 2.5 s; it was 70 s
        assert wait_for_end(house.context, stubborn) is RunState.CANCELLED  # by the rows: a heartbeat tells of it
        Dispatcher(house.context, "other:1").one_pass()  # what it needs of Redis it does without, in time to lead
        assert time.monotonic() - began < 20

    assert_whole(house, run_id, marker)
    for each in during:
        assert wait_for_end(house.context, each, BACK_SECONDS) is RunState.COMPLETED


def test_connections_that_are_cut_again_and_again_cost_time_only(station: Station, tmp_path: Path) -> None:
    house, redis = station.house, station.redis
    marker = tmp_path / "marker"
    run_id = submitted(house.context, mixed_steps(marker), budget=EXACTLY)
    for lines in range(1, 15, 2):
        wait_for(lambda lines=lines: len(lines_of(marker)) >= lines)
        redis.cut_all()

    assert_whole(house, run_id, marker)
    assert list(house.celery.control.inspect(timeout=5, limit=1).ping()) != []  # it answers, and its answer is read
    assert keys_without_owner(house) == []


def test_a_message_that_was_popped_and_never_recorded_is_sent_again(
    house: Runtime, own_redis: FaultyRedis, start_worker: Start, tmp_path: Path
) -> None:
    """Redis pops as it writes to a worker's socket; a worker that is frozen then has it, and nobody knows."""
    marker = tmp_path / "marker"
    worker = start_worker("-c", "1")
    _freeze_as_it_waits_for_a_message(own_redis, worker)
    run_id = submitted(house.context, [shell_step("one", f"echo one >> {marker}"), noop_step("two", needs=["one"])])
    assert queue_depths(house.celery)[COMMANDS] == 0  # popped
    worker.kill()
    assert lines_of(marker) == []

    start_worker("-c", "1")

    assert wait_for_end(house.context, run_id) is RunState.COMPLETED
    assert lines_of(marker) == ["one"]
    assert [row.state for row in attempt_rows(house.context, run_id)] == [AttemptState.SUCCEEDED] * 2


def _freeze_as_it_waits_for_a_message(own_redis: FaultyRedis, worker: WorkerProcess) -> None:
    """Freeze the main process with a blocking pop in Redis that has just begun: it lasts a second."""
    wait_for(lambda: _is_served(own_redis))
    worker.send(signal.SIGSTOP)


def _is_served(faulty: FaultyRedis) -> bool:
    """Whether somebody waits for messages since less than a second."""
    with faulty.client() as client:
        waiting = [each for each in client.client_list() if each["cmd"] == "brpop"]
    return any(int(each["idle"]) == 0 and "b" in each["flags"] for each in waiting)


@pytest.mark.parametrize(("moment", "flushes"), [("before", 1), ("after", 2)])
def test_a_flush_around_a_send_delays_the_step_by_the_patience(
    house: Runtime, own_redis: FaultyRedis, monkeypatch: pytest.MonkeyPatch, moment: str, flushes: int
) -> None:
    """Between the note that a step was sent and the sending; or right after it, and again when it is sent anew."""
    send, left = broker.send, flushes

    def flushing(*arguments: Any) -> None:
        nonlocal left
        left -= 1
        if left >= 0 and moment == "before":
            own_redis.flush()
        send(*arguments)
        if left >= 0 and moment == "after":
            own_redis.flush()

    monkeypatch.setattr(broker, "send", flushing)
    impatient = Runtime(house.settings.model_copy(update={"lost_doorbell_seconds": 0.2}), celery=house.celery)
    run_id = submitted(impatient.context, [noop_step("one")])
    leading = Dispatcher(impatient.context, "one:1")

    wait_for(lambda: leading.one_pass() and left <= 0 and queue_depths(house.celery)[CONTROL] == 1)

    assert step_rows(house.context, run_id)["one"].sent_at is not None
    impatient.close()


def test_a_report_outlives_the_dispatcher_that_took_it(house: Runtime, own_redis: FaultyRedis) -> None:
    """Killed between taking a revoke and acting on it: the next leader acts on it."""
    run_id = submitted(house.context, [noop_step("one")])
    step = str(step_id(run_id, StepKey("one")))
    house.context.side_channel.report({"kind": "revoked", "task_id": step, "actor": "celery-control"})
    assert len(house.context.side_channel.take_reports()) == 1  # and nothing more: it was killed

    Dispatcher(house.context, "next:1").one_pass()

    assert step_rows(house.context, run_id)["one"].state == "cancelled"
    assert house.context.side_channel.take_reports() == []
