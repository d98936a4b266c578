"""Rates: tickets in order of asking, one snooze each, nothing spent by waiting, and no window with more than may be."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from hashlib import sha256
from itertools import pairwise
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import Connection, text

from agentflow.broker.breakers import Admitted
from agentflow.domain.ids import AttemptId, ClaimToken, RunId, StepKey, step_id
from agentflow.domain.limit import LATENESS_SECONDS, PACE
from agentflow.domain.outcome import AttemptOutcome, ClaimRefusal, Failed, Released, Succeeded
from agentflow.domain.reason import Reason, ReasonCode, sentence_of
from agentflow.domain.state import RunState
from agentflow.engine.cancel import cancel, cancel_step
from agentflow.engine.claim import Claimed, claim
from agentflow.engine.dispatcher import Dispatcher
from agentflow.engine.execute import Doorbell, execute
from agentflow.engine.settle import Settled, Settlement, settle
from agentflow.engine.verify import verify_run
from agentflow.runtime import Runtime
from agentflow.storage import claims, steps
from tests.factories import attempt_rows, noop_step, run_state, shell_step, step_rows, submitted, wait_for_end
from tests.gcra import Rate
from tests.workers import WorkerProcess

Start = Callable[..., WorkerProcess]


def _api(limit: str = "60/m", burst: int = 1) -> dict[str, Any]:
    return {"rate_limit": {"key": "api", "limit": limit, "burst": burst}}


def _execute(house: Runtime, statement: str, **parameters: Any) -> list[Any]:
    with house.context.database.transaction() as tx:
        result = tx.execute(text(statement), parameters)
        return list(result.all()) if result.returns_rows else []


def _claim(house: Runtime, run_id: RunId, key: str) -> Claimed | ClaimRefusal:
    return claim(house.context, run_id, StepKey(key), "test:0")


def _next_at(house: Runtime, key: str = "api") -> datetime:
    (row,) = _execute(house, "SELECT next_at FROM rate WHERE key = :key", key=key)
    at: datetime = row.next_at
    return at


def _pass_time(house: Runtime, seconds: float) -> None:
    """Let the rows see that some seconds went by."""
    by = timedelta(seconds=seconds)
    _execute(house, "UPDATE rate SET next_at = next_at - :by", by=by)
    _execute(house, "UPDATE step SET not_before = not_before - :by, ticket_at = ticket_at - :by", by=by)


def _snoozes(house: Runtime, run_id: RunId) -> list[Any]:
    return _execute(house, "SELECT * FROM audit_event WHERE run_id = :id AND action = 'snooze' ORDER BY id", id=run_id)


def test_who_must_wait_is_snoozed_to_a_ticket_and_spends_nothing(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("a", **_api()), noop_step("b", needs=[], **_api())])
    assert isinstance(_claim(house, run_id, "a"), Claimed)
    house.context.side_channel.wait_for_wakeup(0.05)

    assert _claim(house, run_id, "b") is ClaimRefusal.RATE_LIMITED

    step = step_rows(house.context, run_id)["b"]
    assert (step.state, step.attempts, step.sent_at) == ("ready", 0, None)
    assert step.not_before == step.ticket_at
    wait = step.ticket_at - attempt_rows(house.context, run_id, "a")[0].started_at
    assert wait == timedelta(seconds=round(1 / PACE, 6))
    assert attempt_rows(house.context, run_id, "b") == []
    assert house.context.side_channel.wait_for_wakeup(0.05)
    assert _claim(house, run_id, "b") is ClaimRefusal.NOT_DUE


def test_a_snooze_is_one_event_and_tells_until_when(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("a", **_api()), noop_step("b", needs=[], **_api())])
    _claim(house, run_id, "a")
    _claim(house, run_id, "b")

    (event,) = _snoozes(house, run_id)
    step = step_rows(house.context, run_id)["b"]
    assert (event.actor, event.subject, event.moved) == ("worker:test:0", "step:b", {})
    assert event.reason == step.reason
    assert step.reason["code"] == "rate_limited"
    assert step.reason["detail"]["key"] == "api"
    shown = datetime.fromisoformat(step.reason["detail"]["until"])
    assert abs(shown - step.ticket_at) <= timedelta(milliseconds=1)
    assert sentence_of(step.reason) == f"waits for the rate limit api until {step.reason['detail']['until']}"


def test_a_ticket_lets_its_step_through_without_asking_again(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("a", **_api()), noop_step("b", needs=[], **_api())])
    _claim(house, run_id, "a")
    _claim(house, run_id, "b")
    _pass_time(house, 2.0)
    before = _next_at(house)

    claimed = _claim(house, run_id, "b")

    assert isinstance(claimed, Claimed)
    assert _next_at(house) == before
    assert step_rows(house.context, run_id)["b"].reason is None


def _end(house: Runtime, claimed: Claimed, outcome: AttemptOutcome) -> Any:
    """Settle an attempt; returns its step."""
    settlement = Settlement(claimed.run_id, claimed.step_id, claimed.plan, outcome, "worker:test:0")
    assert isinstance(settle(house.context, settlement, claimed.claim_token), Settled)
    return step_rows(house.context, claimed.run_id)[claimed.key]


def _with_ticket(house: Runtime, limit: str = "6/m") -> Claimed:
    """A claim that used the ticket for which its step had waited; another step has a later one."""
    run_id = submitted(house.context, [noop_step(key, needs=[], **_api(limit)) for key in "abc"])
    for key in "abc":
        _claim(house, run_id, key)
    _pass_time(house, 11.0)
    claimed = _claim(house, run_id, "b")
    assert isinstance(claimed, Claimed)
    return claimed


def test_an_attempt_that_is_given_back_before_it_began_has_not_used_its_ticket(house: Runtime) -> None:
    claimed = _with_ticket(house)
    before = _next_at(house)
    given = step_rows(house.context, claimed.run_id)["b"].ticket_at
    contended = Released(Reason(ReasonCode.BUDGET_CONTENDED), delay_seconds=5.0)

    assert _end(house, claimed, contended).ticket_at == given

    _pass_time(house, 5.0)
    again = _claim(house, claimed.run_id, "b")
    assert isinstance(again, Claimed)
    assert _next_at(house) == before - timedelta(seconds=5)
    assert _end(house, again, Succeeded()).ticket_at is None


def test_a_ticket_that_was_given_for_the_same_moment_is_kept_too(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("a", **_api("6/m"))])
    claimed = _claim(house, run_id, "a")
    assert isinstance(claimed, Claimed)
    before = _next_at(house)

    _end(house, claimed, Released(Reason(ReasonCode.SERVERS_AWAY)))

    assert isinstance(_claim(house, run_id, "a"), Claimed)
    assert _next_at(house) == before


def test_a_ticket_that_is_over_when_its_step_comes_back_is_taken_anew(house: Runtime) -> None:
    claimed = _with_ticket(house)
    _end(house, claimed, Released(Reason(ReasonCode.BREAKER_OPEN), delay_seconds=30.0))
    _pass_time(house, 30.0)
    _execute(house, "UPDATE rate SET next_at = now() + interval '30 s'")

    assert _claim(house, claimed.run_id, "b") is ClaimRefusal.RATE_LIMITED


@pytest.mark.parametrize(
    "outcome",
    [
        pytest.param(Released(Reason(ReasonCode.CALL_POSTPONED), delay_seconds=1.0), id="postponed"),
        pytest.param(Released(Reason(ReasonCode.DRAINED), was_started=True), id="drained at work"),
        pytest.param(Failed(Reason(ReasonCode.CALL_FAILED)), id="failed"),
    ],
)
def test_what_arrived_has_used_its_ticket(house: Runtime, outcome: AttemptOutcome) -> None:
    claimed = _with_ticket(house)

    assert _end(house, claimed, outcome).ticket_at is None


def test_a_step_that_a_breaker_holds_back_comes_back_with_its_ticket(house: Runtime) -> None:
    """Its trials are all out, which are waited for a few seconds: less than the rate's interval."""
    call = {"id": "call", "needs": [], "http": {"url": "http://down.example/"}, **_api("6/m")}
    run_id = submitted(house.context, [call])
    endpoint = "http:" + sha256(b"down.example:80").hexdigest()[:16]
    breakers, redis = house.context.breakers, house.context.side_channel
    for _ in range(5):
        breakers.record(endpoint, False)
    redis.client.hset(redis.keys.breaker(endpoint), "opened_at", "1")
    trials = [breakers.admit(endpoint, 60) for _ in range(3)]

    execute(house.context, house.lease_keeper, Doorbell(run_id, StepKey("call")), "test:0")

    assert [isinstance(trial, Admitted) for trial in trials] == [True] * 3
    assert step_rows(house.context, run_id)["call"].reason["code"] == "breaker_open"
    before = _next_at(house)
    _pass_time(house, 6.0)
    assert isinstance(_claim(house, run_id, "call"), Claimed)
    assert _next_at(house) == before - timedelta(seconds=6)


def test_a_ticket_that_is_too_late_is_taken_anew(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step(key, needs=[], **_api()) for key in "abc"])
    for key in "abc":
        _claim(house, run_id, key)
    _pass_time(house, 1 / PACE + LATENESS_SECONDS + 0.3)
    _execute(house, "UPDATE rate SET next_at = now() + interval '30 s'")

    assert _claim(house, run_id, "b") is ClaimRefusal.RATE_LIMITED

    late, early = (step_rows(house.context, run_id)[key] for key in "bc")
    assert late.ticket_at > early.ticket_at + timedelta(seconds=25)


def test_a_burst_goes_at_once_and_the_next_waits(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step(f"s{i}", needs=[], **_api("6/m", burst=3)) for i in range(4)])

    answers = [_claim(house, run_id, f"s{i}") for i in range(4)]

    assert [isinstance(answer, Claimed) for answer in answers] == [True, True, True, False]


def test_every_try_of_a_step_needs_a_ticket(house: Runtime) -> None:
    retries = {"retry": {"max_attempts": 2, "on_exit_codes": [75], "base": "0s", "jitter": 0}}
    run_id = submitted(house.context, [shell_step("a", "exit 75", **retries, **_api())])
    execute(house.context, house.lease_keeper, Doorbell(run_id, StepKey("a")), "test:0")
    assert step_rows(house.context, run_id)["a"].state == "retrying"

    assert _claim(house, run_id, "a") is ClaimRefusal.RATE_LIMITED

    step = step_rows(house.context, run_id)["a"]
    assert (step.state, step.attempts, step.failures) == ("retrying", 1, 1)
    _pass_time(house, 2.0)
    assert isinstance(_claim(house, run_id, "a"), Claimed)


def test_a_step_without_a_key_has_one_over_all_runs_of_its_plan(house: Runtime) -> None:
    own = {"rate_limit": "60/m"}
    first, second = (submitted(house.context, [noop_step("a", **own), noop_step("b", needs=[], **own)]) for _ in "12")

    assert isinstance(_claim(house, first, "a"), Claimed)
    assert isinstance(_claim(house, first, "b"), Claimed)
    assert _claim(house, second, "a") is ClaimRefusal.RATE_LIMITED
    assert step_rows(house.context, second)["a"].rate_key == "default/tested/a"


def test_a_denied_ticket_holds_no_place(house: Runtime) -> None:
    both = {"concurrency": {"key": "db", "limit": 2}, **_api()}
    run_id = submitted(house.context, [noop_step(key, needs=[], **both) for key in "ab"])
    assert isinstance(_claim(house, run_id, "a"), Claimed)

    assert _claim(house, run_id, "b") is ClaimRefusal.RATE_LIMITED

    held = _execute(house, "SELECT number FROM slot WHERE attempt_id IS NOT NULL")
    assert [row.number for row in held] == [1]


def test_who_has_no_place_takes_no_ticket(house: Runtime) -> None:
    both = {"concurrency": {"key": "db", "limit": 1}, **_api()}
    run_id = submitted(house.context, [noop_step(key, needs=[], **both) for key in "ab"])
    assert isinstance(_claim(house, run_id, "a"), Claimed)
    before = _next_at(house)

    assert _claim(house, run_id, "b") is ClaimRefusal.SLOT_BUSY

    assert _next_at(house) == before
    assert step_rows(house.context, run_id)["b"].ticket_at is None


def test_of_both_limits_tickets_do_not_run_far_ahead_of_places(house: Runtime) -> None:
    """A step that is ready for its ticket must not find the places taken by those who came after it."""
    both = {"concurrency": {"key": "db", "limit": 2}, **_api()}
    run_id = submitted(house.context, [noop_step(f"s{i}", needs=[], **both) for i in range(6)])
    dispatcher = Dispatcher(house.context, "one:1")
    for _ in range(4):
        dispatcher.one_pass()
        for key, row in step_rows(house.context, run_id).items():
            if row.sent_at:
                execute(house.context, house.lease_keeper, Doorbell(run_id, StepKey(key)), "test:0")

    rows = step_rows(house.context, run_id)
    assert [key for key, row in rows.items() if row.state == "succeeded"] == ["s0"]
    assert [key for key, row in rows.items() if row.ticket_at] == ["s1", "s2", "s3"]  # s4 and s5 have not asked

    _pass_time(house, 3.2)
    dispatcher.one_pass()
    assert [key for key, row in step_rows(house.context, run_id).items() if row.sent_at] == ["s1", "s2"]


def test_only_some_ask_at_a_time_and_who_is_due_by_a_ticket_goes_first(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step(f"s{i:02}", needs=[], **_api()) for i in range(60)])
    other = submitted(house.context, [noop_step(f"n{i}", needs=[]) for i in range(20)])
    _execute(house, "UPDATE step SET sent_at = NULL")
    dispatcher = Dispatcher(house.context, "one:1")

    assert dispatcher.one_pass() == 0.0
    assert len([row for row in step_rows(house.context, run_id).values() if row.sent_at]) == steps.ASKS
    assert all(row.sent_at for row in step_rows(house.context, other).values())
    assert dispatcher.one_pass() >= 0.5  # nothing more to send: no reason to look again at once

    _claim(house, run_id, "s00")
    assert _claim(house, run_id, "s01") is ClaimRefusal.RATE_LIMITED
    dispatcher.one_pass()
    rows = step_rows(house.context, run_id)
    assert len([row for row in rows.values() if row.sent_at]) == steps.ASKS
    assert rows["s01"].sent_at is None

    _pass_time(house, 2.0)
    dispatcher.one_pass()
    assert step_rows(house.context, run_id)["s01"].sent_at is not None


def test_a_claim_under_a_rate_wakes_the_dispatcher_so_that_the_next_may_ask(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("a", **_api())])
    house.context.side_channel.wait_for_wakeup(0.05)

    assert isinstance(_claim(house, run_id, "a"), Claimed)

    assert house.context.side_channel.wait_for_wakeup(0.05)


@pytest.mark.parametrize("whole_run", [True, False])
def test_a_snoozed_step_can_be_cancelled(house: Runtime, whole_run: bool) -> None:
    run_id = submitted(house.context, [noop_step("a", **_api()), noop_step("b", needs=[], **_api())])
    execute(house.context, house.lease_keeper, Doorbell(run_id, StepKey("a")), "test:0")
    assert _claim(house, run_id, "b") is ClaimRefusal.RATE_LIMITED

    if whole_run:
        cancel(house.context, run_id, "tester")
    else:
        cancel_step(house.context, step_id(run_id, StepKey("b")), "tester")

    assert step_rows(house.context, run_id)["b"].state == "cancelled"
    assert run_state(house.context, run_id) in (RunState.CANCELLED, RunState.PARTIAL)
    assert verify_run(house.context, run_id).is_intact


def test_claims_at_once_get_tickets_one_interval_apart(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step(f"s{i}", needs=[], **_api()) for i in range(24)])

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda i: _claim(house, run_id, f"s{i}"), range(24)))

    assert sum(isinstance(answer, Claimed) for answer in answers) == 1
    tickets = sorted(row.ticket_at for row in step_rows(house.context, run_id).values() if row.state == "ready")
    gaps = {round((later - earlier).total_seconds(), 4) for earlier, later in pairwise(tickets)}
    assert len(tickets) == 23
    assert gaps == {round(1 / PACE, 4)}


offsets = st.floats(-20, 20, allow_nan=False)


@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.integers(1, 300), st.integers(1, 10), st.none() | offsets, st.none() | st.floats(-20, 0))
def test_the_statement_says_what_the_reference_says(
    house: Runtime, limit: int, burst: int, next_in: float | None, ticket_in: float | None
) -> None:
    """In one transaction, in which now() stands still; all times are seconds from it."""
    interval = 60 / limit / PACE
    reference = Rate(interval, burst) if next_in is None else Rate(interval, burst, next_in)
    expected = reference.ask(0.0, ticket_in)
    if ticket_in is not None and abs(ticket_in + reference.lateness) < 0.001:
        return  # on the edge, where a microsecond decides

    with house.context.database.transaction() as tx:
        run_id = _step_with(tx, house, interval, burst, next_in, ticket_in)
        taken = claims.claim(
            tx,
            run_id,
            step_id(run_id, StepKey("a")),
            attempt_id=AttemptId(uuid4()),
            claim_token=ClaimToken(uuid4()),
            worker="test:0",
            lease_seconds=20,
        )
        after = tx.execute(text("SELECT extract(epoch FROM next_at - now()) FROM rate WHERE key = 'api'")).scalar()
        tx.rollback()

    if expected is None:
        assert isinstance(taken, claims.ClaimedStep)
    else:
        assert isinstance(taken, claims.TicketedStep)
        assert (taken.ticket_at - taken.at).total_seconds() == pytest.approx(expected, abs=0.001)
    if after is not None:
        assert float(after) == pytest.approx(reference.next_at, abs=0.001)


def _step_with(
    tx: Connection, house: Runtime, interval: float, burst: int, next_in: float | None, ticket_in: float | None
) -> RunId:
    """A due step as the example has it; submitted once, changed within the transaction only."""
    found = tx.execute(text("SELECT run_id FROM step LIMIT 1")).scalar()
    run_id = RunId(found) if found else submitted(house.context, [noop_step("a", **_api())])
    given_step = """UPDATE step SET not_before = now() - interval '1 h', rate_interval_seconds = :interval,
                    rate_burst = :burst, ticket_at = now() + make_interval(secs => :ticket_in) WHERE run_id = :run"""
    tx.execute(text(given_step), {"interval": interval, "burst": burst, "ticket_in": ticket_in, "run": run_id})
    if next_in is not None:
        tx.execute(text("INSERT INTO rate VALUES ('api', now() + make_interval(secs => :s))"), {"s": next_in})
    return run_id


STEPS = 80


def test_three_workers_keep_to_the_rate_and_the_order_of_asking(house: Runtime, start_worker: Start) -> None:
    """600/m over three worker processes: a tenth of a minute stands for a minute."""
    for _ in range(3):
        start_worker("-c", "1")
    run_id = submitted(house.context, [noop_step(f"s{i}", needs=[], **_api("600/m")) for i in range(STEPS)])
    assert wait_for_end(house.context, run_id, 90) is RunState.COMPLETED

    attempts = attempt_rows(house.context, run_id)
    assert [row.number for row in attempts] == [1] * STEPS  # waiting spent no attempt
    starts = [row.started_at.timestamp() for row in attempts]
    window, allowed = 6.0, (6.0 + LATENESS_SECONDS) * 10 * PACE + 1
    assert max(bisect_left(starts, at + window) - place for place, at in enumerate(starts)) <= allowed
    assert starts[-1] - starts[0] >= (STEPS - 1) / 10 / PACE - LATENESS_SECONDS - 0.01
    assert starts[-1] - starts[0] <= 2 * STEPS / 10 / PACE

    asked = _snoozes(house, run_id)
    tickets = [datetime.fromisoformat(event.reason["detail"]["until"]).timestamp() for event in asked]
    assert tickets == sorted(tickets)
    last_ticket = dict(zip((event.step_id for event in asked), tickets, strict=True))
    for row in attempts:
        if row.step_id in last_ticket:
            lateness = row.started_at.timestamp() - last_ticket[row.step_id]
            assert -0.002 <= lateness <= LATENESS_SECONDS + 0.002
    assert verify_run(house.context, run_id).is_intact
