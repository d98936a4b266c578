"""Whoever needs a run for himself gets it, however many claims and settles share it."""

from __future__ import annotations

import threading
import time

from agentflow.domain.ids import RunId
from agentflow.domain.state import RunState
from agentflow.engine.cancel import cancel
from agentflow.runtime import Runtime
from agentflow.storage import runs
from agentflow.storage.database import Database
from tests.factories import noop_step, run_state, submitted

SHARERS = 8


def test_a_cancel_is_not_passed_by_those_who_share_the_run(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("a")])
    stopping, sharing = threading.Event(), threading.Barrier(SHARERS + 1)
    threads = [
        threading.Thread(target=_share, args=(house, run_id, 0.02 + n / 300, sharing, stopping)) for n in range(SHARERS)
    ]
    for thread in threads:
        thread.start()
    sharing.wait()

    began = time.monotonic()
    cancel(house.context, run_id, "tester")
    took = time.monotonic() - began
    stopping.set()
    for thread in threads:
        thread.join()

    assert run_state(house.context, run_id) is RunState.CANCELLED
    assert took < 3


def _share(
    house: Runtime, run_id: RunId, seconds: float, sharing: threading.Barrier, stopping: threading.Event
) -> None:
    """Hold the run shared for a while, again and again, as busy workers do; never all free it at the same moment."""
    database = Database(house.servers.database_url, pool_size=1)
    sharing.wait()
    while not stopping.is_set():
        with database.transaction() as tx:
            runs.lock(tx, run_id, is_shared=True)
            stopping.wait(seconds)
    database.close()
