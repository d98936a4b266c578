"""Failed attempts are tried again as the policy says, and on time by the database's clock."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from agentflow.domain.state import AttemptState, RunState
from tests.factories import attempt_rows, lines_of, shell_step, step_rows, submitted, wait_for_end
from tests.integration.engine.conftest import Station

FAILS_TWICE = "[ $AGENTFLOW_ATTEMPT -ge 3 ] || exit 75"
SOON = {"base": "300ms", "factor": 1, "jitter": 0}


def _lags(attempts: list[Any]) -> list[float]:
    """How late, in seconds, each attempt began after the time at which the one before was to be tried again."""
    pairs = list(pairwise(attempts))
    assert all(before.retry_at is not None for before, _ in pairs)
    return [(after.started_at - before.retry_at).total_seconds() for before, after in pairs]


def test_a_retry_starts_within_three_tenths_of_a_second_of_being_due(station: Station) -> None:
    house = station.house
    run_id = submitted(house.context, [shell_step("flaky", FAILS_TWICE)])
    assert wait_for_end(house.context, run_id) is RunState.COMPLETED
    attempts = attempt_rows(house.context, run_id)
    delays = [(row.retry_at - row.ended_at).total_seconds() for row in attempts[:2]]
    assert delays == [pytest.approx(0.7, rel=0.26), pytest.approx(1.4, rel=0.26)]
    lags = _lags(attempts)
    for _ in range(4):
        run_id = submitted(house.context, [shell_step("flaky", FAILS_TWICE, retry={"max_attempts": 3, **SOON})])
        assert wait_for_end(house.context, run_id) is RunState.COMPLETED
        lags += _lags(attempt_rows(house.context, run_id))

    assert min(lags) >= 0
    assert median(lags) < 0.3
    assert max(lags) < 1.0  # a shared machine may be busy for a moment


def test_every_policy_is_kept(station: Station, tmp_path: Path) -> None:
    house = station.house
    seen = tmp_path / "seen"
    steps = [
        shell_step("default", FAILS_TWICE, needs=[]),
        shell_step("unlisted", "exit 7", needs=[], on_failure="continue"),
        shell_step("listed", "exit 7", needs=[], on_failure="continue", retry={"on_exit_codes": [7], **SOON}),
        shell_step(
            "message",
            "[ $AGENTFLOW_ATTEMPT -ge 2 ] || { echo 'HTTP 429: Rate Limit' >&2; exit 1; }",
            needs=[],
            retry={"on_messages": ["rate limit"], **SOON},
        ),
        shell_step(
            "slow",
            "[ $AGENTFLOW_ATTEMPT -ge 2 ] || sleep 30",
            needs=[],
            timeout="500ms",
            retry={"on_timeout": True, **SOON},
        ),
        shell_step("first", f"echo first >> {seen}; [ $AGENTFLOW_ATTEMPT -ge 2 ] || exit 75", needs=[]),
        shell_step("second", f"echo second >> {seen}", needs=["first"]),
        shell_step("third", f"echo third >> {seen}", needs=["second"]),
    ]

    run_id = submitted(house.context, steps)

    assert wait_for_end(house.context, run_id) is RunState.PARTIAL
    tried = {key: [row.state for row in attempt_rows(house.context, run_id, key)] for key in ("default", "slow")}
    assert tried["default"] == [AttemptState.FAILED, AttemptState.FAILED, AttemptState.SUCCEEDED]
    assert tried["slow"] == [AttemptState.TIMED_OUT, AttemptState.SUCCEEDED]
    assert attempt_rows(house.context, run_id, "slow")[0].exit_code == 124
    rows = step_rows(house.context, run_id)
    counted = {key: (row.attempts, row.failures, row.state) for key, row in rows.items()}
    assert counted["unlisted"] == (1, 1, "failed")
    assert counted["listed"] == (3, 3, "failed")
    assert counted["message"] == (2, 1, "succeeded")
    assert counted["slow"] == (2, 1, "succeeded")
    # The rest of the stretch went on behind the retried step, once.
    assert lines_of(seen) == ["first", "first", "second", "third"]
    assert counted["second"] == counted["third"] == (1, 0, "succeeded")
