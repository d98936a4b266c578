"""Servers go away under beat: it waits and goes on, and what fell due meanwhile fires as its schedule says."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
from celery.beat import BeatLazyFunc

from agentflow import runtime
from agentflow.embedded import EmbeddedPostgres
from agentflow.runtime import Runtime
from agentflow.storage import beat_entries
from agentflow.worker.beat_scheduler import PostgresScheduler
from tests.beats import BeatProcess
from tests.factories import wait_for
from tests.faults.servers import FaultyRedis, FaultyServer
from tests.schedules import firing_rows, pushed, scheduled, states_of
from tests.workers import REPOSITORY

APP = """
from kombu import Queue
from agentflow.worker.beat_service import make_beat_app
app = make_beat_app(has_dispatcher=False)
app.conf.task_queues += (Queue("mine"),)
app.conf.beat_schedule = {"tick": {"task": "mine.tick", "schedule": 1.0, "options": {"queue": "mine"}}}
"""


@pytest.fixture
def beat(house: Runtime, tmp_path: Path) -> Iterator[BeatProcess]:
    """A beat of an app with an entry of its user's."""
    (tmp_path / "mine.py").write_text(APP)
    path = f"{tmp_path}:{REPOSITORY}"
    process = BeatProcess(house.settings, tmp_path, ("celery", "-A", "mine", "beat"), PYTHONPATH=path)
    yield process
    process.kill()


def test_beat_outlives_a_postgres_that_is_restarted_and_one_that_is_away(
    own_postgres: FaultyServer[EmbeddedPostgres], house: Runtime, beat: BeatProcess
) -> None:
    context = house.context
    pushed(context)
    schedule = scheduled(context, every="1s", overlap="allow")
    wait_for(lambda: "started" in states_of(context, schedule))
    own_postgres.kill(signal.SIGQUIT)
    own_postgres.start()
    context.database.engine.dispose()
    count = len(firing_rows(context, schedule))
    wait_for(lambda: len(firing_rows(context, schedule)) > count)
    with own_postgres.away():
        wait_for(lambda: "servers_unreachable" in beat.output())
    context.database.engine.dispose()
    count = len(firing_rows(context, schedule))
    wait_for(lambda: len([each for each in states_of(context, schedule) if each == "started"]) > count)
    dues = [row.due_at for row in firing_rows(context, schedule)]
    assert dues == [dues[0] + timedelta(seconds=number) for number in range(len(dues))], "it caught up"
    assert beat.process.poll() is None, beat.output()


def test_beat_outlives_a_redis_that_is_away_and_schedules_do_not_wait_for_it(
    own_redis: FaultyRedis, house: Runtime, beat: BeatProcess
) -> None:
    context, key = house.context, house.settings.redis_prefix + "mine"
    pushed(context)
    schedule = scheduled(context, every="1s", overlap="allow")
    client = redis.Redis.from_url(house.servers.redis_url)
    wait_for(lambda: client.llen(key))
    with own_redis.away():
        wait_for(lambda: "entry_not_sent" in beat.output())
        count = states_of(context, schedule).count("started")
        wait_for(lambda: states_of(context, schedule).count("started") > count + 1)
    before = client.llen(key)
    wait_for(lambda: client.llen(key) > before)  # type: ignore[operator]  # the client is not asynchronous
    assert beat.process.poll() is None, beat.output()
    client.close()


def test_an_entry_that_was_taken_and_not_sent_fires_although_postgres_was_away_meanwhile(
    own_postgres: FaultyServer[EmbeddedPostgres], house: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runtime, "_current", house)

    made: list[int] = []

    def make_message() -> int:
        made.append(len(made) + 1)
        if len(made) == 1:
            own_postgres.stop()
            raise OSError("it is not made")
        return made[-1]

    entry = {"task": "mine.tick", "schedule": 3600.0, "args": [BeatLazyFunc(make_message)]}
    scheduler = PostgresScheduler(house.celery, lazy=True)
    scheduler.setup_schedule()
    scheduler.update_from_dict({"mine": entry})
    scheduler.schedule["mine"].last_run_at = datetime(2026, 11, 21, 6, tzinfo=UTC)
    scheduler.tick()
    assert made == [1]
    own_postgres.start()
    house.context.database.engine.dispose()

    for _ in range(2):
        scheduler.tick()

    with house.context.database.transaction() as tx:
        noted = beat_entries.read(tx, ["mine"])["mine"]
    assert made == [1, 2]
    assert noted.total_run_count == 1
    scheduler.close()
