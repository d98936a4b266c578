"""Postgres restarted, and away for longer than a lease: everything reconnects, and no attempt is lost for it."""

from __future__ import annotations

import re
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from agentflow.domain.state import AttemptState, RunState
from agentflow.embedded import EmbeddedPostgres
from agentflow.engine.verify import verify_run
from agentflow.runtime import Runtime
from tests.factories import (
    attempt_rows,
    lines_of,
    noop_step,
    shell_step,
    step_rows,
    submitted,
    wait_for,
    wait_for_end,
)
from tests.faults.servers import FaultyServer
from tests.workers import WorkerProcess

Start = Callable[..., WorkerProcess]
Postgres = FaultyServer[EmbeddedPostgres]
LEASE = 4.0


@pytest.fixture
def quick_house(own_postgres: Postgres, house: Runtime) -> Runtime:
    """The test's installation with short leases."""
    house.settings = house.settings.model_copy(update={"lease_seconds": LEASE})
    return house


def _states(house: Runtime, *run_ids: object) -> Counter[str]:
    rows = [row for run_id in run_ids for row in attempt_rows(house.context, run_id)]  # type: ignore[arg-type]
    return Counter(row.state for row in rows)


def _settling(worker: WorkerProcess) -> set[str]:
    """The steps that the worker has tried in vain to settle."""
    delayed = [line for line in worker.output().splitlines() if "settle_delayed" in line]
    return {found[1] for line in delayed if (found := re.search(r"step_id=(\w+)", line))}


def test_an_immediate_restart_under_load_costs_no_attempt(
    own_postgres: Postgres, house: Runtime, start_worker: Start, tmp_path: Path
) -> None:
    marker = tmp_path / "marker"
    start_worker("-c", "3")
    runs = [
        submitted(
            house.context,
            [shell_step(f"s{i}", f"echo x >> {marker}; sleep 0.1", needs=[f"s{i - 1}"] if i else []) for i in range(8)],
        )
        for _ in range(4)
    ]
    for number in (6, 16):
        wait_for(lambda number=number: len(lines_of(marker)) >= number, 60)
        own_postgres.kill(signal.SIGQUIT)
        own_postgres.start()

    assert [wait_for_end(house.context, run_id, 60) for run_id in runs] == [RunState.COMPLETED] * 4
    assert len(lines_of(marker)) == 32
    states = _states(house, *runs)
    # A claim whose commit took place and whose answer went with the server is nobody's: its lease ends it.
    assert states[AttemptState.LOST] <= 2
    assert states - Counter({AttemptState.LOST: 2}) == {AttemptState.SUCCEEDED: 32}
    assert [verify_run(house.context, run_id).findings for run_id in runs] == [()] * 4


def test_after_an_outage_longer_than_a_lease_nothing_is_lost_and_what_was_broken_off_is_given_back(
    own_postgres: Postgres, quick_house: Runtime, start_worker: Start, tmp_path: Path
) -> None:
    """What ended meanwhile is settled as it ended; what was under way at the end of its lease is given back."""
    house, marker, gate = quick_house, tmp_path / "marker", tmp_path / "gate"
    worker = start_worker("-c", "3")
    ends = f"echo ends >> {marker}; while [ ! -e {gate} ]; do sleep 0.05; done"
    never = f"echo never >> {marker}; [ $AGENTFLOW_ATTEMPT -ge 2 ] || exec sleep 90"
    once = f"echo once >> {marker}; exec sleep 90"
    run_id = submitted(
        house.context,
        [
            shell_step("ends", ends, needs=[]),
            shell_step("never", never, needs=[]),
            shell_step("once", once, needs=[], on_lost="hold"),
            noop_step("after", needs=["ends", "never"]),
        ],
    )
    wait_for(lambda: len(lines_of(marker)) == 3)

    with own_postgres.away():
        gate.touch()
        # Two of them come to be settled only because the end of their leases broke them off.
        wait_for(lambda: _settling(worker) == {"ends", "never", "once"}, 30)
        until = time.monotonic() + LEASE  # nothing tells of the end of a second lease's length
        wait_for(lambda: time.monotonic() > until)

    wait_for(lambda: step_rows(house.context, run_id)["after"].state == "succeeded", 60)
    (ended,), (given_back, again) = (attempt_rows(house.context, run_id, key) for key in ("ends", "never"))
    assert (ended.state, given_back.state) == (AttemptState.SUCCEEDED, AttemptState.RELEASED)
    assert given_back.reason["code"] == "servers_away"
    assert again.state == AttemptState.SUCCEEDED
    rows = step_rows(house.context, run_id)
    assert (rows["never"].losses, rows["never"].joint_losses, rows["never"].failures) == (0, 0, 0)
    assert rows["once"].state == "held"
    assert Counter(lines_of(marker)) == {"ends": 1, "never": 2, "once": 1}
    assert verify_run(house.context, run_id).findings == ()


def test_a_postgres_that_hangs_for_longer_than_a_lease_loses_no_attempt(
    own_postgres: Postgres, quick_house: Runtime, start_worker: Start, tmp_path: Path
) -> None:
    """No connection breaks, so that nobody is told: dispatcher and workers wait for their statements."""
    house, marker = quick_house, tmp_path / "marker"
    start_worker("-c", "2")
    script = f"echo x >> {marker}; [ $AGENTFLOW_ATTEMPT -ge 2 ] || exec sleep 90"
    run_id = submitted(house.context, [shell_step(key, script, needs=[]) for key in "ab"])
    wait_for(lambda: len(lines_of(marker)) == 2)
    until = time.monotonic() + LEASE  # a lease of contact: the dispatcher may rescue from now on
    wait_for(lambda: time.monotonic() > until)

    with own_postgres.frozen():
        until = time.monotonic() + 2 * LEASE
        wait_for(lambda: time.monotonic() > until)

    assert wait_for_end(house.context, run_id, 60) is RunState.COMPLETED
    assert _states(house, run_id) == {AttemptState.RELEASED: 2, AttemptState.SUCCEEDED: 2}


def test_a_worker_that_is_stopped_while_postgres_is_away_does_not_wait_for_it(
    own_postgres: Postgres, quick_house: Runtime, start_worker: Start, tmp_path: Path
) -> None:
    house, marker = quick_house, tmp_path / "marker"
    worker = start_worker("-c", "1", AGENTFLOW_DRAIN_SECONDS="1")
    run_id = submitted(
        house.context, [shell_step("work", f"echo x >> {marker}; [ $AGENTFLOW_ATTEMPT -ge 2 ] || exec sleep 90")]
    )
    wait_for(lambda: lines_of(marker))

    with own_postgres.away():
        assert worker.stop(60) == 0
    start_worker("-c", "1")

    assert wait_for_end(house.context, run_id, 60) is RunState.COMPLETED
    assert len(lines_of(marker)) == 2
