"""Schedules as beats really keep them: started, killed, frozen and thawed, and never one firing twice."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from sqlalchemy import text

from agentflow.domain.ids import RunId
from agentflow.engine.context import EngineContext
from agentflow.engine.scheduler import TERM_SECONDS
from agentflow.runtime import Runtime
from agentflow.storage.schedules import Schedule
from tests.beats import VIA_CELERY, BeatProcess, keeper_pid
from tests.factories import attempt_rows, lines_of, run_state, shell_step, wait_for, wait_for_end
from tests.schedules import firing_rows, pushed, scheduled, set_due
from tests.stacks import CommandLine
from tests.workers import WorkerProcess, environment_of

TAKEOVER_SECONDS = 5
SLACK_SECONDS = 10
"""What a busy machine may add to a takeover, which takes a term and a poll."""
APP = """
from kombu import Queue
from agentflow.worker.beat_service import make_beat_app
app = make_beat_app(has_dispatcher=False)
app.conf.task_queues += (Queue("mine"),)
app.conf.beat_schedule = {"tick": {"task": "mine.tick", "schedule": 0.5, "options": {"queue": "mine"}}}
"""


@pytest.fixture
def start_beat(house: Runtime, tmp_path: Path) -> Iterator[Callable[..., BeatProcess]]:
    """Start beats for the test's installation; all are gone at its end."""
    started: list[BeatProcess] = []

    def start(*command: str, **environment: str) -> BeatProcess:
        name = f"beat-{len(started)}"
        started.append(BeatProcess(house.settings, tmp_path, command or VIA_CELERY, name, **environment))
        return started[-1]

    yield start
    for beat in started:
        beat.kill()


@pytest.fixture
def start_users_beat(
    start_beat: Callable[..., BeatProcess], house: Runtime, tmp_path: Path
) -> Callable[[], BeatProcess]:
    """Start beats of an app with an entry of its user's, and without a dispatcher."""
    (tmp_path / "mine.py").write_text(APP)
    path = os.pathsep.join([str(tmp_path), environment_of(house.settings, tmp_path)["PYTHONPATH"]])
    return lambda: start_beat("celery", "-A", "mine", "beat", PYTHONPATH=path)


@pytest.fixture
def sent(house: Runtime) -> Iterator[Callable[[], int]]:
    """How often the user's entry was sent; nobody takes its messages."""
    queue = house.settings.redis_prefix + "mine"
    client = redis.Redis.from_url(house.servers.redis_url)
    yield lambda: int(client.llen(queue))  # type: ignore[arg-type]  # the client is not asynchronous
    client.delete(queue)
    client.close()


def _started(context: EngineContext, schedule: Schedule) -> list[Any]:
    return [row for row in firing_rows(context, schedule) if row.state == "started"]


def _now(context: EngineContext) -> datetime:
    with context.database.transaction() as tx:
        now: datetime = tx.execute(text("SELECT now()")).scalar_one()
    return now


def _wait_for_firing(context: EngineContext, schedule: Schedule, since: datetime) -> datetime:
    """Wait for a run that was started after a moment; returns when."""
    return min(wait_for(lambda: [row.noted_at for row in _started(context, schedule) if row.noted_at > since]))


def test_celery_beat_is_all_that_schedules_need(
    house: Runtime, start_beat: Callable[..., BeatProcess], start_worker: Callable[..., WorkerProcess], tmp_path: Path
) -> None:
    """What is kept, stopped and fired while it runs counts at once; runs never overlap where they may not."""
    context, marker = house.context, tmp_path / "marker"
    beat = start_beat()
    start_worker()
    beat.wait_until_keeping(context)
    pushed(context, [shell_step("tell", f"echo told >> {marker}")], name="telling")
    every_second = scheduled(context, "telling", plan="telling", every="1s", overlap="queue", queue_depth=5)
    wait_for(lambda: len(lines_of(marker)) >= 3)
    for row in _started(context, every_second)[:3]:
        assert wait_for_end(context, RunId(row.run_id)) == "completed"
    gaps = itertools.pairwise(row.due_at for row in firing_rows(context, every_second))
    assert {later - earlier for earlier, later in gaps} == {timedelta(seconds=1)}

    pushed(context, [shell_step("sleep", "exec sleep 60")], name="sleeping")
    latest = scheduled(context, "latest", plan="sleeping", cron="@yearly", overlap="cancel-previous")
    runs = []
    for number in range(2):
        due = set_due(context, latest)
        wait_for(lambda due=due: [row for row in _started(context, latest) if row.due_at == due])
        runs.append(RunId(_started(context, latest)[number].run_id))
        wait_for(lambda number=number: [row.state for row in attempt_rows(context, runs[number])] == ["running"])
    assert run_state(context, runs[0]) == "cancelled"
    (first,), (second,) = (attempt_rows(context, run_id) for run_id in runs)
    assert first.ended_at < second.started_at

    beat.process.terminate()
    assert beat.process.wait(30) == 0
    assert keeper_pid(context) is None, "it resigned"


def test_nothing_fires_twice_or_is_forgotten_when_leaders_freeze_thaw_and_die(
    house: Runtime, start_users_beat: Callable[[], BeatProcess], sent: Callable[[], int]
) -> None:
    context = house.context
    pushed(context)
    beats = [start_users_beat(), start_users_beat()]
    for beat in beats:
        wait_for(lambda beat=beat: "Starting" in beat.output() or beat.process.poll() is not None)
    schedule = scheduled(context, every="1s", overlap="allow")
    wait_for(lambda: len(_started(context, schedule)) >= 2 and sent() >= 2)

    frozen = next(beat for beat in beats if beat.pid == keeper_pid(context))
    other = next(beat for beat in beats if beat is not frozen)
    frozen.send(signal.SIGSTOP)
    since = _now(context)
    wait_for(lambda: keeper_pid(context) == other.pid)
    tookover = _wait_for_firing(context, schedule, since + timedelta(seconds=TERM_SECONDS / 2))
    assert (tookover - since).total_seconds() < TAKEOVER_SECONDS + SLACK_SECONDS
    ticks = sent()
    wait_for(lambda: sent() > ticks)
    frozen.send(signal.SIGCONT)
    count = len(_started(context, schedule))
    wait_for(lambda: len(_started(context, schedule)) >= count + 3)
    assert keeper_pid(context) == other.pid

    other.send(signal.SIGKILL)
    since = _now(context)
    tookover = _wait_for_firing(context, schedule, since + timedelta(seconds=TERM_SECONDS / 2))
    assert (tookover - since).total_seconds() < TAKEOVER_SECONDS + SLACK_SECONDS
    wait_for(lambda: keeper_pid(context) == frozen.pid)
    ticks = sent()
    wait_for(lambda: sent() > ticks)
    frozen.process.terminate()
    assert frozen.process.wait(30) == 0, frozen.output()

    rows = firing_rows(context, schedule)
    assert {later.due_at - earlier.due_at for earlier, later in itertools.pairwise(rows)} == {timedelta(seconds=1)}
    assert {row.state for row in rows} <= {"started", "due", "starting"}
    with context.database.transaction() as tx:
        runs = set(tx.execute(text("SELECT id FROM run")).scalars())
        fired = tx.execute(text("SELECT total_run_count FROM beat_entry WHERE name = 'tick'")).scalar_one()
    assert {row.run_id for row in rows if row.state == "started"} <= runs
    assert len(runs) <= len(rows), "each due time has one run at most"
    assert 0 <= fired - sent() <= 1, "the beat that was killed may have taken one that it did not send"


def test_a_beat_that_comes_later_fires_what_an_entry_missed_once_and_not_what_had_fired(
    house: Runtime, start_users_beat: Callable[[], BeatProcess], sent: Callable[[], int]
) -> None:
    context = house.context
    beat = start_users_beat()
    wait_for(lambda: sent() >= 1)
    beat.kill()
    before = sent()
    with context.database.transaction() as tx:  # it fired a moment ago, by what stands
        later = "UPDATE beat_entry SET last_run_at = now() + interval '1 hour'"
        tx.execute(text(later))
    beat = start_users_beat()
    beat.wait_until_keeping(context)
    set_due(context, scheduled(context, "probe", plan=pushed(context).name, cron="@yearly"))
    wait_for(lambda: _count(context, "firing") == 1)
    assert sent() == before
    beat.kill()
    with context.database.transaction() as tx:
        tx.execute(text("UPDATE beat_entry SET last_run_at = now() - interval '1 day'"))
    beat = start_users_beat()
    wait_for(lambda: sent() > before)


def _count(context: EngineContext, table: str) -> int:
    with context.database.transaction() as tx:
        return int(tx.execute(text(f"SELECT count(*) FROM {table}")).scalar_one())


def test_the_stack_that_up_starts_keeps_schedules(cli: CommandLine, tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text("agentflow: 1\nname: small\nsteps:\n  - id: one\n    noop: {}\n")
    assert cli.run("up", "--detach", seconds=120).returncode == 0
    cli.answer("plan", "push", str(tmp_path / "plan.yaml"))
    cli.answer("schedule", "create", "often", "--plan", "small", "--every", "1s")
    firings = wait_for(
        lambda: [
            firing
            for firing in cli.answer("schedule", "history", "often")["firings"]
            if firing["run_state"] == "completed"
        ]
    )
    assert cli.answer("schedule", "show", "often")["keeper"]
    assert firings[0]["state"] == "started"
    assert cli.run("down", seconds=60).returncode == 0
