"""Every shape of graph ends with one succeeded attempt a step, and its audit verifies."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from agentflow.domain.state import AttemptState, RunState
from agentflow.runtime import Runtime
from tests.factories import attempt_rows, noop_step, shell_step, step_rows, submitted, wait_for_end
from tests.workers import WorkerProcess


def _chain(length: int) -> list[dict[str, Any]]:
    return [noop_step(f"s{i}", needs=[f"s{i - 1}"] if i else []) for i in range(length)]


def _fan_in(width: int) -> list[dict[str, Any]]:
    branches = [noop_step(f"b{i}", needs=["root"]) for i in range(width)]
    return [noop_step("root"), *branches, noop_step("join", needs=[branch["id"] for branch in branches])]


def _diamond() -> list[dict[str, Any]]:
    return [
        shell_step("top", "true"),
        shell_step("left", "true", needs=["top"]),
        shell_step("right", "true", needs=["top"]),
        shell_step("bottom", "true", needs=["left", "right"]),
    ]


@pytest.mark.parametrize(
    "steps", [_chain(200), _fan_in(50), _diamond()], ids=["chain of 200", "50 into one join", "diamond"]
)
def test_a_run_completes_with_one_succeeded_attempt_a_step(
    house: Runtime, worker: WorkerProcess, steps: list[dict[str, Any]]
) -> None:
    run_id = submitted(house.context, steps)

    assert wait_for_end(house.context, run_id, 60) is RunState.COMPLETED
    attempts = attempt_rows(house.context, run_id)
    assert Counter(row.state for row in attempts) == {AttemptState.SUCCEEDED: len(steps)}
    assert {row.attempts for row in step_rows(house.context, run_id).values()} == {1}
