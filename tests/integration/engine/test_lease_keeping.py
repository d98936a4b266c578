"""Leases are extended while work goes on, whatever else hangs; what cannot be extended is ended."""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from agentflow.domain.ids import AttemptId, ClaimToken, RunId, StepKey
from agentflow.domain.state import RunState
from agentflow.embedded import EmbeddedValkey
from agentflow.engine.claim import Claimed, claim
from agentflow.engine.heartbeat import LeaseKeeper
from agentflow.executors.base import StopReason
from agentflow.runtime import Runtime
from agentflow.storage.database import Database
from tests.factories import attempt_rows, lines_of, noop_step, shell_step, submitted, wait_for, wait_for_end
from tests.workers import WorkerProcess


@pytest.fixture
def quick_house(house: Runtime) -> Iterator[Runtime]:
    """The test's installation with leases of one second."""
    quick = Runtime(house.settings.model_copy(update={"lease_seconds": 1.0}))
    yield quick
    quick.close()


def _claimed(house: Runtime, run_id: RunId, key: str) -> Claimed:
    claimed = claim(house.context, run_id, StepKey(key), "test:0")
    assert isinstance(claimed, Claimed)
    return claimed


def _reason(keeper: LeaseKeeper, attempt_id: AttemptId) -> StopReason | None:
    with keeper.keeping(attempt_id, ClaimToken(uuid4()), time.monotonic()) as lifeline:
        return lifeline.stop_reason


def _lease_until(house: Runtime, run_id: RunId) -> float:
    return float(attempt_rows(house.context, run_id)[0].lease_until.timestamp())


def test_a_lease_is_extended_for_as_long_as_the_work_goes_on(quick_house: Runtime) -> None:
    run_id = submitted(quick_house.context, [noop_step("one")])
    claimed = _claimed(quick_house, run_id, "one")
    renewals: list[float] = []

    with quick_house.lease_keeper.keeping(claimed.attempt_id, claimed.claim_token, time.monotonic()) as lifeline:
        lifeline.on_renew(renewals.append)
        first = _lease_until(quick_house, run_id)
        wait_for(lambda: _lease_until(quick_house, run_id) > first + 1)
        assert lifeline.stop_reason is None

    assert len(renewals) >= 3
    assert set(renewals) == {1.0}


def test_heartbeats_do_not_queue_behind_a_busy_pool(quick_house: Runtime) -> None:
    run_id = submitted(quick_house.context, [noop_step("one")])
    claimed = _claimed(quick_house, run_id, "one")
    first = _lease_until(quick_house, run_id)
    with (
        quick_house.lease_keeper.keeping(claimed.attempt_id, claimed.claim_token, time.monotonic()) as lifeline,
        _all_connections(quick_house.context.database),
    ):
        deadline = time.monotonic() + 2.5
        wait_for(lambda: lifeline.stop_reason or time.monotonic() > deadline)
        assert lifeline.stop_reason is None
    assert _lease_until(quick_house, run_id) > first + 1


@contextmanager
def _all_connections(database: Database) -> Iterator[None]:
    connections = [database.engine.connect() for _ in range(5)]
    try:
        yield
    finally:
        for connection in connections:
            connection.close()


def test_work_whose_claim_was_lost_is_told_to_end(quick_house: Runtime) -> None:
    run_id = submitted(quick_house.context, [noop_step("one")])
    claimed = _claimed(quick_house, run_id, "one")
    with quick_house.lease_keeper.keeping(claimed.attempt_id, claimed.claim_token, time.monotonic()) as lifeline:
        with quick_house.context.database.transaction() as tx:
            tx.execute(text("UPDATE attempt SET claim_token = gen_random_uuid()"))
        wait_for(lambda: lifeline.stop_reason is StopReason.LEASE_LOST, 5)


def test_work_is_told_to_end_before_somebody_else_can_have_it(quick_house: Runtime) -> None:
    keeper = LeaseKeeper(quick_house.context, Database("postgresql://nobody@127.0.0.1:1/nothing", pool_size=1))
    began = time.monotonic()
    with keeper.keeping(AttemptId(uuid4()), ClaimToken(uuid4()), began) as lifeline:
        wait_for(lambda: lifeline.stop_reason is StopReason.LEASE_LOST, 5)
    assert time.monotonic() - began >= 1
    keeper.close()


def test_a_stop_that_comes_before_the_attempt_has_begun_is_remembered(house: Runtime) -> None:
    keeper, early = house.lease_keeper, AttemptId(uuid4())
    assert _reason(keeper, AttemptId(uuid4())) is None  # its threads run from now on

    def ask() -> bool:
        house.context.side_channel.stop_attempts([early])
        return _reason(keeper, early) is StopReason.CANCELLED

    wait_for(ask, 5)
    assert _reason(keeper, AttemptId(uuid4())) is None


def test_an_unexpected_error_does_not_end_the_heartbeats(house: Runtime) -> None:
    quick_house = Runtime(house.settings.model_copy(update={"lease_seconds": 4.0}))
    run_id = submitted(quick_house.context, [noop_step("one")])
    claimed = _claimed(quick_house, run_id, "one")
    with quick_house.lease_keeper.keeping(claimed.attempt_id, claimed.claim_token, time.monotonic()) as lifeline:
        with quick_house.context.database.transaction() as tx:
            tx.execute(text("ALTER TABLE attempt RENAME COLUMN is_stop_requested TO renamed"))
        time.sleep(1.2)  # at least one heartbeat fails in this time, and nothing tells when
        with quick_house.context.database.transaction() as tx:
            tx.execute(text("ALTER TABLE attempt RENAME COLUMN renamed TO is_stop_requested"))
            tx.execute(text("UPDATE attempt SET is_stop_requested = true, lease_until = now() + interval '1 minute'"))
        wait_for(lambda: lifeline.stop_reason, 5)
        assert lifeline.stop_reason is StopReason.CANCELLED
    quick_house.close()


def test_a_redis_that_hangs_costs_no_lease(
    house: Runtime, start_worker: Callable[..., WorkerProcess], tmp_path: Path
) -> None:
    with (
        tempfile.TemporaryDirectory(prefix="agentflow-test-", ignore_cleanup_errors=True) as home,
        EmbeddedValkey(Path(home), fsync=False) as valkey,
    ):
        own = Runtime(house.settings.model_copy(update={"redis_url": SecretStr(valkey.url), "lease_seconds": 4.0}))
        start_worker("-c", "1", AGENTFLOW_REDIS_URL=valkey.url, AGENTFLOW_LEASE_SECONDS="4")
        marker = tmp_path / "marker"
        run_id = submitted(own.context, [shell_step("work", f"echo x >> {marker}; sleep 6")])
        wait_for(lambda: lines_of(marker))
        assert valkey.pid is not None
        os.kill(valkey.pid, signal.SIGSTOP)
        try:
            wait_for(lambda: attempt_rows(house.context, run_id)[0].ended_at is not None, 30)
        finally:
            os.kill(valkey.pid, signal.SIGCONT)
        assert wait_for_end(house.context, run_id) is RunState.COMPLETED
        assert [row.state for row in attempt_rows(house.context, run_id)] == ["succeeded"]
        own.close()
