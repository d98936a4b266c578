"""One dispatcher leads; a dead or frozen one is replaced, a thawed one does nothing; each pass survives what is bad."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import text

from agentflow.domain.ids import RunId, StepKey, step_id
from agentflow.domain.state import RunState
from agentflow.engine.claim import Claimed, claim
from agentflow.engine.dispatcher import TERM_SECONDS, Dispatcher
from agentflow.runtime import Runtime
from agentflow.storage import steps
from tests.factories import attempt_rows, noop_step, run_state, step_rows, submitted, wait_for, wait_for_end
from tests.workers import WorkerProcess, children, is_alive

Start = Callable[..., WorkerProcess]


@pytest.fixture
def quick_house(house: Runtime) -> Iterator[Runtime]:
    """The test's installation with leases of one second."""
    quick = Runtime(house.settings.model_copy(update={"lease_seconds": 1.0}), celery=house.celery)
    yield quick
    quick.close()


def _execute(house: Runtime, statement: str, **parameters: Any) -> None:
    with house.context.database.transaction() as tx:
        tx.execute(text(statement), parameters)


def _leader(house: Runtime) -> tuple[int, int]:
    """The pid and the term of the leading dispatcher process; zeros while none leads."""
    with house.context.database.transaction() as tx:
        row = tx.execute(text("SELECT holder, term FROM leader WHERE expires_at > now()")).one_or_none()
    return (int(row.holder.rsplit(":", 1)[1]), row.term) if row else (0, 0)


def _seconds_to_replace(house: Runtime, old: int) -> float:
    began = time.monotonic()
    wait_for(lambda: _leader(house)[0] not in (0, old), 15)
    return time.monotonic() - began


def _wait_for_a_whole_term(house: Runtime) -> None:
    expiry = text("SELECT extract(epoch FROM expires_at) FROM leader")
    with house.context.database.transaction() as tx:
        first = float(tx.execute(expiry).scalar_one())
    with house.context.database.autocommit() as connection:
        wait_for(lambda: float(connection.execute(expiry).scalar_one()) > first + TERM_SECONDS)


def _completes_many_roots(house: Runtime) -> None:
    """A run that needs a dispatcher: it has more roots than a submit sends itself."""
    run_id = submitted(house.context, [noop_step(f"s{i}", needs=[]) for i in range(40)])
    assert wait_for_end(house.context, run_id) is RunState.COMPLETED


def test_of_two_dispatchers_one_leads(house: Runtime) -> None:
    one, other = Dispatcher(house.context, "one:1"), Dispatcher(house.context, "other:2")
    for _ in range(3):
        one.one_pass()
        other.one_pass()
        assert (one.is_leading, other.is_leading) == (True, False)


def test_a_frozen_or_dead_leader_is_replaced_and_a_thawed_one_does_nothing(house: Runtime, start_worker: Start) -> None:
    workers = [start_worker("-c", "1"), start_worker("-c", "1")]
    frozen, term = wait_for(lambda: (leader := _leader(house))[0] and leader)

    os.kill(frozen, signal.SIGSTOP)
    try:
        assert _seconds_to_replace(house, frozen) < 5
        _completes_many_roots(house)
    finally:
        os.kill(frozen, signal.SIGCONT)

    successor, next_term = _leader(house)
    assert next_term > term
    _completes_many_roots(house)
    _wait_for_a_whole_term(house)  # a false leader would claim it in this time
    assert _leader(house) == (successor, next_term)
    assert is_alive(frozen)

    (victim,) = [worker for worker in workers if successor in children(worker.pid)]
    victim.kill()
    assert _seconds_to_replace(house, successor) < 5
    assert _leader(house)[0] == frozen
    _completes_many_roots(house)


def test_a_worker_starts_its_killed_dispatcher_again(house: Runtime, start_worker: Start) -> None:
    worker = start_worker("-c", "1")
    killed, _ = wait_for(lambda: (leader := _leader(house))[0] and leader)
    assert killed in children(worker.pid)

    os.kill(killed, signal.SIGKILL)

    assert _seconds_to_replace(house, killed) < 10
    assert _leader(house)[0] in children(worker.pid)
    _completes_many_roots(house)


def test_a_leader_that_lost_its_term_without_knowing_sends_and_recalls_nothing(house: Runtime) -> None:
    old, new = Dispatcher(house.context, "old:1"), Dispatcher(house.context, "new:2")
    run_id = submitted(house.context, [noop_step("one")])
    old.one_pass()
    _execute(house, "UPDATE leader SET expires_at = now() - interval '1 s'")
    new.one_pass()
    assert (old.is_leading, new.is_leading) == (True, True)  # the old one has not looked since
    _execute(house, "UPDATE step SET sent_at = NULL")

    old.one_pass()

    assert not old.is_leading
    assert step_rows(house.context, run_id)["one"].sent_at is None
    new.one_pass()
    assert step_rows(house.context, run_id)["one"].sent_at is not None


def test_a_lapsed_lease_is_ended_only_after_a_full_lease_of_contact(quick_house: Runtime) -> None:
    run_id = _claimed_run(quick_house)
    wait_for(lambda: _is_lapsed(quick_house, run_id), 5)
    dispatcher = Dispatcher(quick_house.context, "fresh:1")

    began = time.monotonic()
    dispatcher.one_pass()
    assert attempt_rows(quick_house.context, run_id)[0].state == "running"

    wait_for(lambda: dispatcher.one_pass() and attempt_rows(quick_house.context, run_id)[0].state == "lost", 10)
    assert time.monotonic() - began >= 1


def _claimed_run(house: Runtime) -> RunId:
    run_id = submitted(house.context, [noop_step("one")])
    assert isinstance(claim(house.context, run_id, StepKey("one"), "gone:1"), Claimed)
    return run_id


def _is_lapsed(house: Runtime, run_id: RunId) -> bool:
    with house.context.database.transaction() as tx:
        lapsed: bool = tx.execute(
            text("SELECT bool_and(lease_until < now()) FROM attempt WHERE run_id = :id"), {"id": run_id}
        ).scalar_one()
    return lapsed


def test_one_bad_row_does_not_keep_the_others_from_being_rescued(quick_house: Runtime) -> None:
    bad, good = _claimed_run(quick_house), _claimed_run(quick_house)
    _execute(quick_house, "UPDATE step SET key = 'in no plan' WHERE run_id = :id", id=bad)
    dispatcher = Dispatcher(quick_house.context, "one:1")

    wait_for(lambda: dispatcher.one_pass() and attempt_rows(quick_house.context, good)[0].state == "lost", 10)

    assert attempt_rows(quick_house.context, bad)[0].state == "running"
    assert dispatcher.is_leading


def test_a_report_that_makes_no_sense_is_passed_over(house: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    run_id = submitted(house.context, [noop_step("one")])
    for report in (
        {},
        {"kind": "revoked"},
        {"kind": ["what a model said"], "task_id": {"what a model said": 1}, "actor": "what a model said"},
        {"kind": "revoked", "task_id": "what a model said", "actor": "a"},
        {"kind": "unheard of", "task_id": str(step_id(run_id, StepKey("one")))},
        {"kind": "revoked", "task_id": str(step_id(run_id, StepKey("one"))), "actor": "celery-control"},
    ):
        house.context.side_channel.report(report)

    Dispatcher(house.context, "one:1").one_pass()

    assert step_rows(house.context, run_id)["one"].state == "cancelled"
    assert house.context.side_channel.take_reports() == []
    assert caplog.text.count("report_not_acted_on") == 4
    assert "what a model said" not in caplog.text


def test_a_run_that_nobody_ended_is_ended_by_the_dispatcher(house: Runtime) -> None:
    """Its last settle was committed and the process died before it could end the run."""
    run_id = submitted(house.context, [noop_step("one")])
    _execute(house, "UPDATE step SET state = 'succeeded', not_before = NULL, sent_at = NULL")
    _execute(house, "UPDATE run_state SET open_sinks = 0")

    Dispatcher(house.context, "one:1").one_pass()

    assert run_state(house.context, run_id) is RunState.COMPLETED


def test_steps_that_somebody_else_holds_leave_their_room_to_others(house: Runtime) -> None:
    held, free = (submitted(house.context, [noop_step(f"s{i}") for i in range(9)]) for _ in range(2))
    _execute(house, "UPDATE step SET sent_at = NULL")
    queue = step_rows(house.context, held)["s0"].queue

    with house.context.database.transaction() as other, house.context.database.transaction() as tx:
        other.execute(text("SELECT 1 FROM step WHERE run_id = :id FOR UPDATE"), {"id": held})
        due = steps.stamp_due(tx, queue, 5)

    assert [(step.run_id, step.key) for step in due] == [(free, f"s{i}") for i in range(5)]
    with house.context.database.transaction() as tx:
        assert {step.run_id for step in steps.stamp_due(tx, queue, 5)} == {held, free}
