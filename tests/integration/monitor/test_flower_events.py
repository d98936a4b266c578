"""Workers send events while a Flower watches, and for no longer: on a real worker, over its remote control."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from celery import Celery

from agentflow.broker.monitor_events import WATCH_COMMAND, Watching
from agentflow.domain.ids import StepKey, step_id
from agentflow.runtime import Runtime
from tests.factories import noop_step, submitted, wait_for, wait_for_end
from tests.integration.monitor.flower import FlowerProcess
from tests.workers import WorkerProcess

LENT, ENDED = "events_lent", "events_no_longer_lent"


def _watch(celery: Celery, monitor: str, seconds: float) -> str:
    """Say that a monitor watches, as one that may be killed does; returns the worker's answer."""
    told = {"monitor": monitor, "seconds": seconds}
    (answer,) = wait_for(lambda: celery.control.broadcast(WATCH_COMMAND, arguments=told, reply=True, limit=1))
    return str(next(iter(answer.values())))


def test_workers_send_events_until_the_last_flower_that_asks_has_gone(
    house: Runtime, tmp_path: Path, start_worker: Callable[..., WorkerProcess]
) -> None:
    quiet = FlowerProcess(house.settings, tmp_path, "--enable-events=False")
    worker = start_worker()
    with closing_at_once(quiet):
        quiet.wait_until_it_hears(worker)  # its heartbeats are no task events
        assert "on loan to 0" in _watch(house.celery, "nobody", 0)

    flower = FlowerProcess(house.settings, tmp_path)
    with closing_at_once(flower):
        flower.wait_until_it_hears(worker)
        wait_for(lambda: LENT in worker.output())
        run_id = submitted(house.context, [noop_step("work")])
        assert wait_for_end(house.context, run_id) == "completed"
        flower.wait_for_state(step_id(run_id, StepKey("work")), "SUCCESS")
        other = Watching(house.celery)
        other.renew()
        assert flower.stop() == 0
    assert "on loan to 1" in _watch(house.celery, "nobody", 0), "the one has said that it goes, the other watches"
    other.end()
    wait_for(lambda: ENDED in worker.output())

    assert "on loan to 1" in _watch(house.celery, "killed", 0.5)
    wait_for(lambda: worker.output().count(ENDED) == 2)


@contextmanager
def closing_at_once(flower: FlowerProcess) -> Iterator[None]:
    """Leave no Flower behind."""
    try:
        yield
    finally:
        flower.kill()
