"""Pool children come and go without losing a step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from agentflow.domain.state import AttemptState, RunState
from agentflow.runtime import Runtime
from tests.factories import attempt_rows, shell_step, submitted, wait_for_end
from tests.workers import WorkerProcess


def test_children_that_are_replaced_lose_no_step(house: Runtime, start_worker: Callable[..., WorkerProcess]) -> None:
    start_worker("-c", "2", "--max-tasks-per-child", "4")
    run_id = submitted(house.context, [shell_step(f"s{number}", "true", needs=[]) for number in range(24)])

    assert wait_for_end(house.context, run_id, 60) is RunState.COMPLETED
    attempts = attempt_rows(house.context, run_id)
    assert Counter(row.state for row in attempts) == {AttemptState.SUCCEEDED: 24}
    assert len({row.worker for row in attempts}) >= 5
