"""A worker host's clock is wrong by an hour: nothing happens, for leases and due times are Postgres' alone."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from sqlalchemy import text

from agentflow.domain.state import AttemptState, RunState
from agentflow.engine.verify import verify_run
from agentflow.runtime import Runtime
from tests.factories import attempt_rows, lines_of, noop_step, shell_step, submitted, wait_for_end
from tests.workers import REPOSITORY, WorkerProcess

HOUR = 3600
QUICK_LEASE = 4.0


def _clock_of(worker: WorkerProcess) -> float:
    """What a worker takes the time for, by the last line of its log."""
    written = re.findall(r"^(\d{4}-\d\d-\d\dT\S+Z)", worker.output(), re.MULTILINE)
    return datetime.fromisoformat(written[-1]).timestamp()


@pytest.mark.parametrize("skew_seconds", [HOUR, -HOUR])
def test_a_wrong_clock_neither_loses_a_lease_nor_moves_a_due_time(
    house: Runtime, start_worker: Callable[..., WorkerProcess], tmp_path: Path, skew_seconds: int
) -> None:
    house.settings = house.settings.model_copy(update={"lease_seconds": QUICK_LEASE})
    marker = tmp_path / "marker"
    path = f"{REPOSITORY}/tests/faults/skewed:{REPOSITORY}"
    worker = start_worker("-c", "2", PYTHONPATH=path, TEST_CLOCK_SKEW_SECONDS=str(skew_seconds))
    assert abs(_clock_of(worker) - time.time() - skew_seconds) < 300
    long = shell_step("long", f"sleep {QUICK_LEASE + 1}; date +%s >> {marker}", needs=[])
    fails_once = shell_step("fails", "[ $AGENTFLOW_ATTEMPT -ge 2 ] || exit 75", needs=[], retry=2)
    limited = [noop_step(f"limited{i}", needs=[], rate_limit={"key": "skewed", "limit": "60/m"}) for i in range(3)]

    run_id = submitted(house.context, [long, fails_once, *limited, noop_step("after", needs=["long", "fails"])])

    assert wait_for_end(house.context, run_id, 60) is RunState.COMPLETED
    attempts = attempt_rows(house.context, run_id)
    assert {row.state for row in attempts} <= {AttemptState.SUCCEEDED, AttemptState.FAILED}
    assert sum(row.state == AttemptState.FAILED for row in attempts) == 1
    with house.context.database.transaction() as tx:
        (off,) = tx.execute(
            text(
                "SELECT count(*) FROM audit_event WHERE run_id = :id AND abs(extract(epoch FROM now() - at)) > 600",
            ),
            {"id": run_id},
        ).scalars()
    assert off == 0
    assert lines_of(marker)
    assert verify_run(house.context, run_id).findings == ()
