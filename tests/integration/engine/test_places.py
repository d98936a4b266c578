"""Concurrency keys: never more at once than places, first come, first served, and nothing is spent by waiting."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from agentflow.domain.ids import RunId, StepKey, step_id
from agentflow.domain.outcome import ClaimRefusal
from agentflow.domain.state import RunState
from agentflow.engine.cancel import cancel, cancel_step
from agentflow.engine.claim import Claimed, claim
from agentflow.engine.dispatcher import Dispatcher
from agentflow.engine.execute import Doorbell, execute
from agentflow.engine.retry import retry
from agentflow.runtime import Runtime
from agentflow.storage import steps
from tests.factories import (
    attempt_rows,
    command_step,
    lines_of,
    noop_step,
    shell_step,
    step_rows,
    submitted,
    wait_for,
    wait_for_end,
)
from tests.workers import WorkerProcess

Start = Callable[..., WorkerProcess]


def _db(limit: int = 1) -> dict[str, Any]:
    return {"concurrency": {"key": "db", "limit": limit}}


def _execute(house: Runtime, statement: str, **parameters: Any) -> list[Any]:
    with house.context.database.transaction() as tx:
        result = tx.execute(text(statement), parameters)
        return list(result.all()) if result.returns_rows else []


def _slots(house: Runtime) -> list[tuple[int, bool]]:
    """The places of the key by number, and whether each is held."""
    rows = _execute(
        house, "SELECT number, attempt_id IS NOT NULL AS is_held FROM slot WHERE key = 'db' ORDER BY number"
    )
    return [(row.number, row.is_held) for row in rows]


def _claim(house: Runtime, run_id: RunId, key: str) -> Claimed | ClaimRefusal:
    return claim(house.context, run_id, StepKey(key), "test:0")


def _finish(house: Runtime, run_id: RunId, key: str) -> None:
    execute(house.context, house.lease_keeper, Doorbell(run_id, StepKey(key)), "test:0")


def _sent(house: Runtime, *run_ids: RunId) -> set[str]:
    """The steps whose doorbell is on its way."""
    return {key for run_id in run_ids for key, row in step_rows(house.context, run_id).items() if row.sent_at}


@pytest.fixture
def dispatcher(house: Runtime) -> Dispatcher:
    """A dispatcher that leads."""
    return Dispatcher(house.context, "one:1")


def test_a_claim_without_a_free_place_spends_nothing(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("a", **_db()), noop_step("b", **_db())])
    assert isinstance(_claim(house, run_id, "a"), Claimed)
    _execute(house, "UPDATE step SET sent_at = now() WHERE key = 'b'")
    before = step_rows(house.context, run_id)["b"]

    assert _claim(house, run_id, "b") is ClaimRefusal.SLOT_BUSY

    after = step_rows(house.context, run_id)["b"]
    assert (after.state, after.attempts, after.sent_at, after.event_sequence) == ("ready", 0, None, 0)
    assert after.not_before == before.not_before  # it keeps its place in the line
    assert attempt_rows(house.context, run_id, "b") == []
    assert _slots(house) == [(1, True)]


def test_the_end_of_an_attempt_frees_its_place_whatever_the_end(house: Runtime) -> None:
    ends = {"good": "exit 0", "bad": "exit 3", "again": "exit 75"}
    retries = {"retry": {"max_attempts": 2, "on_exit_codes": [75], "base": "30s"}, "on_failure": "continue"}
    run_id = submitted(house.context, [shell_step(key, script, **retries, **_db()) for key, script in ends.items()])
    for key, state in {"good": "succeeded", "bad": "failed", "again": "retrying"}.items():
        _finish(house, run_id, key)
        assert step_rows(house.context, run_id)[key].state == state
        assert _slots(house) == [(1, False)]


def test_claims_at_once_get_no_more_than_the_places(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step(f"s{i}", needs=[], **_db(3)) for i in range(24)])
    start = threading.Barrier(8)

    def race(keys: list[str]) -> list[Claimed | ClaimRefusal]:
        start.wait()
        return [_claim(house, run_id, key) for key in keys]

    with ThreadPoolExecutor(8) as pool:
        groups = [[f"s{i}" for i in range(n, 24, 8)] for n in range(8)]
        answers = [answer for group in pool.map(race, groups) for answer in group]

    claimed = [answer for answer in answers if isinstance(answer, Claimed)]
    assert len(claimed) == 3
    assert {answer for answer in answers if not isinstance(answer, Claimed)} == {ClaimRefusal.SLOT_BUSY}
    assert _slots(house) == [(1, True), (2, True), (3, True)]
    held = _execute(house, "SELECT attempt_id FROM slot")
    assert {row.attempt_id for row in held} == {each.attempt_id for each in claimed}


def test_a_place_that_somebody_is_taking_is_not_waited_for(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("a", **_db(2)), noop_step("b", needs=[], **_db(2))])
    with house.context.database.transaction() as taking:
        taking.execute(text("SELECT FROM slot WHERE number = 1 FOR UPDATE"))
        assert isinstance(_claim(house, run_id, "a"), Claimed)
        assert _claim(house, run_id, "b") is ClaimRefusal.SLOT_BUSY
    assert _slots(house) == [(1, False), (2, True)]


def test_of_mixed_limits_none_goes_over_its_own(house: Runtime) -> None:
    narrow = submitted(house.context, [noop_step(f"n{i}", needs=[], **_db(2)) for i in range(4)])
    wide = submitted(house.context, [noop_step(f"w{i}", needs=[], **_db(4)) for i in range(4)])
    assert [number for number, _ in _slots(house)] == [1, 2, 3, 4]

    answers = [isinstance(_claim(house, narrow, f"n{i}"), Claimed) for i in range(4)]
    assert answers == [True, True, False, False]
    answers = [isinstance(_claim(house, wide, f"w{i}"), Claimed) for i in range(4)]
    assert answers == [True, True, False, False]


def test_only_the_dispatcher_sends_and_only_as_many_as_there_are_places(house: Runtime, dispatcher: Dispatcher) -> None:
    run_id = submitted(house.context, [noop_step(f"s{i}", needs=[], **_db(2)) for i in range(5)])
    assert _sent(house, run_id) == set()
    submitted(house.context, [noop_step("free")])
    _execute(house, "UPDATE step SET sent_at = NULL WHERE key = 'free'")

    dispatcher.one_pass()
    assert _sent(house, run_id) == {"s0", "s1"}
    dispatcher.one_pass()
    assert _sent(house, run_id) == {"s0", "s1"}

    assert isinstance(_claim(house, run_id, "s0"), Claimed)
    dispatcher.one_pass()
    assert _sent(house, run_id) == {"s1"}

    _finish(house, run_id, "s1")
    dispatcher.one_pass()
    assert _sent(house, run_id) == {"s2"}


def test_a_settle_leaves_steps_with_a_place_to_the_dispatcher_and_wakes_it(house: Runtime) -> None:
    run_id = submitted(
        house.context, [noop_step("a"), noop_step("b", needs=["a"], **_db()), noop_step("c", needs=["a"])]
    )
    house.context.side_channel.wait_for_wakeup(0.05)

    _finish(house, run_id, "a")

    assert _sent(house, run_id) == {"c"}
    assert house.context.side_channel.wait_for_wakeup(0.05)


def test_a_freed_place_wakes_the_dispatcher(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("a", **_db()), noop_step("b", needs=["a"])])
    house.context.side_channel.wait_for_wakeup(0.05)

    _finish(house, run_id, "a")

    assert house.context.side_channel.wait_for_wakeup(0.05)


def test_a_cancelled_step_leaves_successors_with_a_place_to_the_dispatcher(house: Runtime) -> None:
    after = noop_step("b", needs=["a"], when="always", **_db())
    run_id = submitted(house.context, [noop_step("a"), after])
    house.context.side_channel.wait_for_wakeup(0.05)

    cancel_step(house.context, step_id(run_id, StepKey("a")), "tester")

    assert step_rows(house.context, run_id)["b"].state == "ready"
    assert _sent(house, run_id) == set()
    assert house.context.side_channel.wait_for_wakeup(0.05)


def test_the_line_is_served_in_the_order_of_falling_due_over_runs_and_queues(
    house: Runtime, dispatcher: Dispatcher
) -> None:
    first = submitted(house.context, [noop_step("a", **_db()), noop_step("b", needs=[], **_db())])
    second = submitted(house.context, [command_step("c", "/bin/true", **_db())])
    third = submitted(house.context, [noop_step("d", **_db())])
    _execute(house, "UPDATE step SET queue = 'models' WHERE key = 'd'")
    runs = {"a": first, "b": first, "c": second, "d": third}

    for key, run_id in runs.items():
        dispatcher.one_pass()
        assert _sent(house, first, second, third) == {key}
        _finish(house, run_id, key)


def test_who_has_no_place_is_not_passed_by_those_behind(house: Runtime, dispatcher: Dispatcher) -> None:
    wide = submitted(house.context, [noop_step("w0", needs=[], **_db(4)), noop_step("w1", needs=[], **_db(4))])
    for key in ("w0", "w1"):
        assert isinstance(_claim(house, wide, key), Claimed)
    narrow = submitted(house.context, [noop_step("n", **_db(2))])
    behind = submitted(house.context, [noop_step("w2", **_db(4))])

    dispatcher.one_pass()

    assert _sent(house, narrow, behind) == set()


def test_a_queue_that_nobody_serves_blocks_the_line_for_ten_seconds_only(
    house: Runtime, dispatcher: Dispatcher
) -> None:
    deserted = submitted(house.context, [noop_step(f"d{i}", needs=[], **_db(2)) for i in range(6)])
    _execute(house, "UPDATE step SET queue = 'models'")
    served = submitted(house.context, [noop_step("s0", needs=[], **_db(2)), noop_step("s1", needs=[], **_db(2))])

    dispatcher.one_pass()
    assert _sent(house, deserted, served) == {"d0", "d1"}
    _execute(house, "UPDATE step SET sent_at = sent_at - interval '9 s' WHERE sent_at IS NOT NULL")
    dispatcher.one_pass()
    assert _sent(house, deserted, served) == {"d0", "d1"}

    _execute(house, "UPDATE step SET sent_at = sent_at - interval '2 s' WHERE sent_at IS NOT NULL")
    dispatcher.one_pass()

    assert _sent(house, deserted, served) == {"d0", "d1", "s0", "s1"}


def test_a_line_that_waits_for_places_is_no_reason_to_look_again_at_once(
    house: Runtime, dispatcher: Dispatcher
) -> None:
    run_id = submitted(house.context, [noop_step("a", **_db()), noop_step("b", needs=[], **_db())])
    assert isinstance(_claim(house, run_id, "a"), Claimed)

    assert dispatcher.one_pass() >= 0.5  # and it is woken when the place is free
    with house.context.database.transaction() as tx:
        assert steps.find_due(tx) == steps.Due(is_due=False, has_line=True, seconds=None)


def test_a_resting_run_stands_in_no_line(house: Runtime, dispatcher: Dispatcher) -> None:
    resting = submitted(house.context, [noop_step("a", **_db())])
    other = submitted(house.context, [noop_step("b", **_db())])
    _execute(house, "UPDATE run_state SET exhausted = '[]', rests_since = now() WHERE run_id = :id", id=resting)

    dispatcher.one_pass()

    assert _sent(house, resting, other) == {"b"}


def test_a_cancelled_run_leaves_its_place_and_its_line(house: Runtime, dispatcher: Dispatcher) -> None:
    run_id = submitted(house.context, [noop_step("a", **_db()), noop_step("b", needs=[], **_db())])
    other = submitted(house.context, [noop_step("c", **_db())])
    dispatcher.one_pass()
    cancel(house.context, run_id, "tester")

    dispatcher.one_pass()
    assert _sent(house, run_id, other) == {"c"}
    assert isinstance(_claim(house, other, "c"), Claimed)


def test_a_retried_step_stands_in_line_again(house: Runtime, dispatcher: Dispatcher) -> None:
    run_id = submitted(house.context, [shell_step("a", "exit 3", **_db())])
    _finish(house, run_id, "a")

    retry(house.context, run_id, "tester")
    dispatcher.one_pass()

    assert _sent(house, run_id) == {"a"}
    assert isinstance(_claim(house, run_id, "a"), Claimed)
    assert _slots(house) == [(1, True)]


@pytest.fixture
def quick_house(house: Runtime) -> Iterator[Runtime]:
    """The test's installation with leases of two seconds."""
    quick = Runtime(house.settings.model_copy(update={"lease_seconds": 2.0}), celery=house.celery)
    yield quick
    quick.close()


def test_a_killed_workers_place_is_free_within_its_lease_and_nobody_elses(
    quick_house: Runtime, start_worker: Start
) -> None:
    lasting = [shell_step(f"s{i}", "exec sleep 60", **_db(2)) for i in range(2)]
    run_id = submitted(quick_house.context, [*lasting, shell_step("s2", "exec sleep 60", **_db(2))])
    lease = {"AGENTFLOW_LEASE_SECONDS": "2"}
    workers = [start_worker("-c", "1", **lease), start_worker("-c", "1", **lease)]
    wait_for(lambda: [row.state for row in attempt_rows(quick_house.context, run_id)] == ["running", "running"])
    doomed, spared = attempt_rows(quick_house.context, run_id)
    (victim,) = [worker for worker in workers if doomed.worker.startswith(worker.name)]

    victim.kill()
    killed_at = time.monotonic()
    wait_for(lambda: _attempt(quick_house, run_id, doomed.id).state == "lost", 30)

    assert (
        time.monotonic() - killed_at < 15
    )  # a lease, a full lease of contact for a new dispatcher, and a busy machine
    holders = {
        row.attempt_id for row in _execute(quick_house, "SELECT attempt_id FROM slot WHERE attempt_id IS NOT NULL")
    }
    assert spared.id in holders
    assert doomed.id not in holders
    assert _attempt(quick_house, run_id, spared.id).state == "running"
    cancel(quick_house.context, run_id, "tester")
    assert wait_for_end(quick_house.context, run_id) is RunState.CANCELLED


def _attempt(house: Runtime, run_id: RunId, attempt_id: Any) -> Any:
    (row,) = [row for row in attempt_rows(house.context, run_id) if row.id == attempt_id]
    return row


def test_two_workers_keep_to_the_places_and_to_the_order(house: Runtime, start_worker: Start, tmp_path: Path) -> None:
    """By the commands' own clocks: what a row says of an attempt's start is a little before its claim took place."""
    log = tmp_path / "log"
    script = (
        f'began=$(date +%s%N); sleep 0.05; echo "$AGENTFLOW_RUN_ID $AGENTFLOW_STEP_ID $began $(date +%s%N)" >> {log}'
    )
    run_ids = [
        submitted(house.context, [shell_step(f"s{i}", script, needs=[], **_db(2)) for i in range(10)]) for _ in range(4)
    ]
    for _ in range(2):
        start_worker("-c", "3")
    for run_id in run_ids:
        assert wait_for_end(house.context, run_id, 120) is RunState.COMPLETED

    worked = sorted((line.split() for line in lines_of(log)), key=lambda words: int(words[2]))
    times = [(int(began), int(ended)) for _, _, began, ended in worked]
    assert len(times) == 40
    for place, (began, _) in enumerate(times):
        assert sum(ended > began for _, ended in times[:place]) <= 1

    line = [(str(run_id), f"s{i}") for run_id in run_ids for i in range(10)]
    places = [line.index((run_id, key)) for run_id, key, *_ in worked]
    # Of two that were sent together either may come first, and one may be slow; by chance this would be above 500.
    assert sum(abs(place - turn) for turn, place in enumerate(places)) <= 60
