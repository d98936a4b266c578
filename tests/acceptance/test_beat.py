"""Beat hosts a dispatcher that stands by for those of the workers, and fires the entries of whoever wrote some."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import redis
from sqlalchemy import text

from agentflow.runtime import Runtime
from tests.beats import VIA_CELERY, BeatProcess
from tests.conftest import AUDIT_KEY
from tests.factories import attempt_rows, shell_step, submitted, wait_for, wait_for_end
from tests.workers import WorkerProcess, environment_of, is_alive

VIA_AGENTFLOW = ("agentflow", "beat")
FLAKY = {"max_attempts": 3, "base": "200ms", "jitter": 0, "on_exit_codes": [75]}
TAKEOVER_SECONDS = 5

USERS_APP = """
from celery import Celery
from agentflow.worker.beat_service import host_dispatcher
app = Celery(broker={broker!r})
host_dispatcher(app)
"""
OUR_APP = """
from kombu import Queue
from agentflow.worker.beat_service import make_beat_app
app = make_beat_app()
app.conf.task_queues += (Queue({queue!r}),)
"""


def _wait_until_leading(beat: BeatProcess, house: Runtime) -> int:
    """Wait until the dispatcher of a beat leads; returns the dispatcher's pid."""
    wait_for(lambda: beat.process.poll() is not None or _leader(house).startswith("beat@"))
    assert beat.process.poll() is None, beat.output()
    return int(_leader(house).rpartition(":")[2])


@pytest.fixture
def start_beat(house: Runtime, tmp_path: Path) -> Iterator[Callable[..., BeatProcess]]:
    """Start beats for the test's installation; all are gone at its end."""
    started: list[BeatProcess] = []

    def start(*command: str, **environment: str) -> BeatProcess:
        started.append(BeatProcess(house.settings, tmp_path, command or VIA_CELERY, **environment))
        return started[-1]

    yield start
    for beat in started:
        beat.kill()


def _leader(house: Runtime) -> str:
    statement = "SELECT holder FROM leader WHERE service = 'dispatcher' AND expires_at > now()"
    with house.context.database.transaction() as tx:
        return str(tx.execute(text(statement)).scalar_one_or_none() or "")


def _flaky_run_completes(house: Runtime) -> None:
    run_id = submitted(house.context, [shell_step("flaky", "[ $AGENTFLOW_ATTEMPT -ge 3 ] || exit 75", retry=FLAKY)])
    assert wait_for_end(house.context, run_id) == "completed"
    assert len(attempt_rows(house.context, run_id)) == 3


@pytest.mark.parametrize("command", [VIA_CELERY, VIA_AGENTFLOW])
def test_runs_go_on_while_only_the_dispatcher_of_beat_leads(
    house: Runtime,
    start_beat: Callable[..., BeatProcess],
    start_worker: Callable[..., WorkerProcess],
    command: tuple[str, ...],
) -> None:
    beat = start_beat(*command)
    leading = _wait_until_leading(beat, house)
    start_worker()
    _flaky_run_completes(house)
    assert _leader(house).endswith(f":{leading}"), "the worker's dispatcher stood by"
    home = Path(beat.environment["AGENTFLOW_HOME"])
    written = [path.name for folder in (beat.cwd, home) if folder.exists() for path in folder.rglob("celerybeat*")]
    assert written == [], "when entries last fired stands in rows, not in a file of this machine"


def test_a_killed_beat_leaves_no_dispatcher_and_the_workers_takes_over(
    house: Runtime, start_beat: Callable[..., BeatProcess], start_worker: Callable[..., WorkerProcess]
) -> None:
    beat = start_beat()
    dispatcher = _wait_until_leading(beat, house)
    start_worker()
    beat.kill()
    wait_for(lambda: not is_alive(dispatcher), TAKEOVER_SECONDS)
    wait_for(lambda: _leader(house) and not _leader(house).startswith("beat@"), TAKEOVER_SECONDS)
    _flaky_run_completes(house)


def test_a_stopped_beat_ends_well_and_takes_its_dispatcher_along(
    house: Runtime, start_beat: Callable[..., BeatProcess]
) -> None:
    beat = start_beat()
    dispatcher = _wait_until_leading(beat, house)
    beat.process.terminate()
    assert beat.process.wait(10) == 0
    assert not is_alive(dispatcher)
    assert _leader(house) == "", "it resigned, so that another need not wait for its term to end"


def test_beat_starts_another_dispatcher_when_its_own_is_killed(
    house: Runtime, start_beat: Callable[..., BeatProcess]
) -> None:
    beat = start_beat()
    killed = _wait_until_leading(beat, house)
    os.kill(killed, signal.SIGKILL)

    def succeeded() -> int | None:
        who, _, process = _leader(house).rpartition(":")
        return int(process) if who.startswith("beat@") and int(process) != killed else None

    another = wait_for(succeeded)
    assert is_alive(another)
    beat.process.terminate()
    assert beat.process.wait(10) == 0
    assert not is_alive(another)


@pytest.mark.parametrize("is_own_app", [True, False])
def test_the_entries_of_a_users_own_schedule_fire(
    house: Runtime, start_beat: Callable[..., BeatProcess], tmp_path: Path, is_own_app: bool
) -> None:
    queue = f"mine-{tmp_path.name}"
    app = USERS_APP.format(broker=house.servers.redis_url) if is_own_app else OUR_APP.format(queue=queue)
    entry = {"task": "mine.tick", "schedule": 0.1, "options": {"queue": queue}}
    (tmp_path / "mine.py").write_text(f"{app}app.conf.beat_schedule = {{'tick': {entry!r}}}\n")
    path = os.pathsep.join([str(tmp_path), environment_of(house.settings, tmp_path)["PYTHONPATH"]])
    schedule = str(tmp_path / "own-schedule")
    beat = start_beat("celery", "-A", "mine", "beat", "-s", schedule, PYTHONPATH=path)
    _wait_until_leading(beat, house)
    key = queue if is_own_app else house.settings.redis_prefix + queue
    client = redis.Redis.from_url(house.servers.redis_url)
    try:
        wait_for(lambda: client.llen(key) >= 2)
        assert b"mine.tick" in (client.lindex(key, 0) or b"")
    finally:
        beat.kill()
        client.delete(key)
        client.close()


def test_a_beat_with_another_audit_key_says_so_and_ends(house: Runtime, start_beat: Callable[..., BeatProcess]) -> None:
    beat = start_beat(AGENTFLOW_AUDIT_KEY=AUDIT_KEY[::-1])
    assert beat.process.wait(60) == 1
    assert "audit key" in beat.output()
    assert _leader(house) == ""
