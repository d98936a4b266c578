"""The time in which a run waits for a person is rest once, whether it is paused meanwhile or not."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from sqlalchemy import text

from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.outcome import Released
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.engine.cancel import cancel
from agentflow.engine.claim import Claimed, claim
from agentflow.engine.pause import pause
from agentflow.engine.resume import resume
from agentflow.engine.retry import retry
from agentflow.engine.settle import Settled, Settlement, settle
from agentflow.runtime import Runtime
from agentflow.storage import reports
from agentflow.storage.active_time import read_active_time
from agentflow.storage.whole_run import read_run
from tests.factories import noop_step, submitted

ACTOR = "tester@test"
AGE = """
    UPDATE run_state
    SET started_at = started_at - :by, rests_since = rests_since - :by, rested_until = rested_until - :by
    WHERE run_id = :id"""
AGE_ATTEMPTS = "UPDATE attempt SET started_at = started_at - :by, ended_at = ended_at - :by WHERE run_id = :id"


@pytest.fixture
def waiting(house: Runtime) -> RunId:
    """A run that has just come to wait for a person."""
    run_id = submitted(house.context, [noop_step("one", on_lost="hold")])
    claimed = claim(house.context, run_id, StepKey("one"), "test:0")
    assert isinstance(claimed, Claimed)
    lost = Released(Reason(ReasonCode.DRAINED), was_started=True)
    settlement = Settlement(run_id, claimed.step_id, claimed.plan, lost, "test:0", is_sink=claimed.is_sink)
    assert isinstance(settle(house.context, settlement, claimed.claim_token), Settled)
    return run_id


def _pass_time(house: Runtime, run_id: RunId, seconds: int) -> None:
    """Let time pass for a run: all that it knows is so much longer ago."""
    values = {"id": run_id, "by": timedelta(seconds=seconds)}
    with house.context.database.transaction() as tx:
        tx.execute(text(AGE), values)
        tx.execute(text(AGE_ATTEMPTS), values)


def _rested(house: Runtime, run_id: RunId) -> float:
    with house.context.database.transaction() as tx:
        found: float = tx.execute(
            text("SELECT rested_seconds FROM run_state WHERE run_id = :id"), {"id": run_id}
        ).scalar_one()
    return found


@pytest.mark.parametrize("ends", [(resume, retry), (retry, resume)], ids=["resumed, then retried", "retried, resumed"])
def test_a_wait_that_a_pause_covers_in_part_is_rest_once(
    house: Runtime, waiting: RunId, ends: tuple[Callable[..., object], Callable[..., object]]
) -> None:
    _pass_time(house, waiting, 10)
    pause(house.context, waiting, ACTOR)
    _pass_time(house, waiting, 80)
    ends[0](house.context, waiting, ACTOR)
    _pass_time(house, waiting, 5)
    ends[1](house.context, waiting, ACTOR)

    assert 95 <= _rested(house, waiting) < 105


def test_a_wait_before_a_late_pause_is_rest_all_the_same(house: Runtime, waiting: RunId) -> None:
    _pass_time(house, waiting, 90)
    pause(house.context, waiting, ACTOR)
    retry(house.context, waiting, ACTOR)
    resume(house.context, waiting, ACTOR)

    assert 90 <= _rested(house, waiting) < 100


def test_a_second_pause_counts_no_wait_again(house: Runtime, waiting: RunId) -> None:
    _pass_time(house, waiting, 90)
    for _ in range(2):
        pause(house.context, waiting, ACTOR)
        resume(house.context, waiting, ACTOR)
    _pass_time(house, waiting, 5)
    retry(house.context, waiting, ACTOR)

    assert 95 <= _rested(house, waiting) < 105


def test_a_pause_of_what_moves_counts_no_time_before_it(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("one")])
    _pass_time(house, run_id, 90)
    pause(house.context, run_id, ACTOR)
    resume(house.context, run_id, ACTOR)

    assert _rested(house, run_id) < 10


def test_while_a_run_waits_for_a_person_its_figures_rest(house: Runtime, waiting: RunId) -> None:
    _pass_time(house, waiting, 90)

    with house.context.database.transaction() as tx:
        shown = read_run(tx, waiting).usage.active_seconds
        head = reports.read_report(tx, waiting).head

    assert head.active_seconds is not None
    assert head.rested_seconds is not None
    assert (shown < 10, head.active_seconds < 10, 90 <= head.rested_seconds < 100) == (True, True, True)


def test_the_figures_of_a_run_do_not_fall_when_its_wait_ends(house: Runtime, waiting: RunId) -> None:
    _pass_time(house, waiting, 90)
    with house.context.database.transaction() as tx:
        before = read_active_time(tx, waiting)
    retry(house.context, waiting, ACTOR)
    with house.context.database.transaction() as tx:
        after = read_active_time(tx, waiting)

    assert before.active <= after.active < 10
    assert before.rested <= after.rested < 100


def test_the_wait_of_a_run_that_is_cancelled_stays_rest(house: Runtime, waiting: RunId) -> None:
    _pass_time(house, waiting, 90)
    cancel(house.context, waiting, ACTOR)

    with house.context.database.transaction() as tx:
        time = read_active_time(tx, waiting)
    assert time.active < 10
    assert 90 <= time.rested < 100
