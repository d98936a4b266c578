"""A paused run starts nothing: softly what runs finishes, hard it is given back at once; resumed, it goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from agentflow.broker.bells import StopKind
from agentflow.domain.budget import BudgetKind, Exhaustion
from agentflow.domain.error import InvalidTransition, NotFound
from agentflow.domain.ids import AttemptId, ClaimToken, RunId, StepKey
from agentflow.domain.outcome import ClaimRefusal, Failed, Succeeded
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.state import RunState
from agentflow.engine.cancel import cancel
from agentflow.engine.claim import Claimed, claim
from agentflow.engine.dispatcher import Dispatcher
from agentflow.engine.finalize import finalize
from agentflow.engine.pause import PauseAsked, pause
from agentflow.engine.resume import resume, resume_renewed
from agentflow.engine.retry import retry
from agentflow.engine.settle import Settled, Settlement, settle
from agentflow.engine.verify import verify_run
from agentflow.executors.base import StopReason
from agentflow.runtime import Runtime
from agentflow.storage import attempts, events, runs, spending, views
from agentflow.storage.view_shapes import RunSummary
from agentflow.storage.whole_run import read_run
from tests.factories import (
    attempt_rows,
    fresh_run_id,
    lines_of,
    noop_step,
    run_state,
    shell_step,
    step_rows,
    submitted,
    wait_for,
    wait_for_end,
    work_off,
)
from tests.integration.engine.conftest import ModelStation, Station
from tests.workers import is_alive

ACTOR = "tester@test"
YESTERDAY = "2020-01-01T00:00:00+00:00"


def _states(house: Runtime, run_id: RunId) -> dict[str, str]:
    return {key: row.state for key, row in step_rows(house.context, run_id).items()}


def _running(house: Runtime, run_id: RunId) -> int:
    with house.context.database.transaction() as tx:
        return attempts.count_running(tx, run_id)


def _shown(house: Runtime, run_id: RunId) -> RunSummary:
    with house.context.database.transaction() as tx:
        return views.read_summary(tx, run_id)


def _row(house: Runtime, run_id: RunId) -> Any:
    with house.context.database.transaction() as tx:
        return tx.execute(text("SELECT * FROM run_state WHERE run_id = :id"), {"id": run_id}).one()


def _events(house: Runtime, run_id: RunId) -> list[str]:
    with house.context.database.transaction() as tx:
        return [event.action for event, _ in events.read_run(tx, run_id) if event.step_id is None]


def _claimed(house: Runtime, run_id: RunId, key: str) -> Claimed:
    claimed = claim(house.context, run_id, StepKey(key), "test:0")
    assert isinstance(claimed, Claimed)
    return claimed


def _settle(house: Runtime, claimed: Claimed, outcome: Any = Succeeded(0)) -> Settled:  # noqa: B008 - frozen
    settlement = Settlement(claimed.run_id, claimed.step_id, claimed.plan, outcome, ACTOR, is_sink=claimed.is_sink)
    settled = settle(house.context, settlement, claimed.claim_token)
    assert isinstance(settled, Settled)
    return settled


def _exhaust(house: Runtime, run_id: RunId, *, resets_at: str | None = None, scope: str = "project:default") -> None:
    day = datetime.fromisoformat(resets_at) if resets_at else None
    over = Exhaustion(BudgetKind.TOKENS, scope, limit=5, used=5, reserved=0, needed=1, resets_at=day)
    with house.context.database.transaction() as tx:
        run = runs.lock(tx, run_id)
        assert run is not None
        runs.exhaust(tx, run, [over])


def test_a_soft_pause_lets_a_command_finish_and_nothing_after_it_start(station: Station, tmp_path: Path) -> None:
    house, marker, go = station.house, tmp_path / "marker", tmp_path / "go"
    script = f"echo first >> {marker}; until [ -e {go} ]; do sleep 0.02; done"
    run_id = submitted(
        house.context, [shell_step("first", script), shell_step("second", f"echo second >> {marker}", ["first"])]
    )
    wait_for(lambda: lines_of(marker))

    assert pause(house.context, run_id, ACTOR, why="the disk is full") == PauseAsked(is_new=True, running=1)
    go.touch()
    wait_for(lambda: not _running(house, run_id))

    assert _states(house, run_id) == {"first": "succeeded", "second": "ready"}
    shown = _shown(house, run_id)
    assert shown.state == "paused"
    assert shown.reason is not None
    detail = dict(shown.reason["detail"])
    assert datetime.fromisoformat(detail.pop("at")) <= shown.read_at
    assert (shown.reason["code"], detail) == ("paused", {"actor": ACTOR, "why": "the disk is full", "scope": "run"})
    # The message that its chain passed on is refused, and its delivery note taken back.
    wait_for(lambda: step_rows(house.context, run_id)["second"].sent_at is None)
    assert attempt_rows(house.context, run_id, "second") == []

    resume(house.context, run_id, ACTOR)
    assert wait_for_end(house.context, run_id) is RunState.COMPLETED
    assert lines_of(marker) == ["first", "second"]
    assert _events(house, run_id) == ["submit", "pause", "resume", "finalize"]
    assert verify_run(house.context, run_id).findings == ()


def test_a_hard_pause_ends_what_runs_and_gives_it_back_at_no_cost(station: Station, tmp_path: Path) -> None:
    house, pids = station.house, tmp_path / "pids"
    script = f"echo $$ >> {pids}; [ $AGENTFLOW_ATTEMPT -ge 2 ] || exec sleep 90"
    run_id = submitted(
        house.context,
        [
            shell_step("again", script, needs=[], retry=1),
            shell_step("once", f"echo $$ >> {pids}; exec sleep 90", needs=[], on_lost="hold", on_failure="continue"),
        ],
    )
    wait_for(lambda: len(lines_of(pids)) == 2)
    commands = [int(line) for line in lines_of(pids)]

    began = time.monotonic()
    assert pause(house.context, run_id, ACTOR, is_hard=True).running == 2
    wait_for(lambda: not _running(house, run_id))
    assert time.monotonic() - began < 5

    assert not any(is_alive(pid) for pid in commands)
    rows = step_rows(house.context, run_id)
    assert (rows["again"].state, rows["again"].failures, rows["again"].losses) == ("ready", 0, 0)
    assert rows["again"].reason == {"code": "paused", "detail": {"actor": ACTOR}}
    # What must not start twice waits for a person, who was told why.
    assert (rows["once"].state, rows["once"].reason["detail"]["after"]) == ("held", "paused")
    assert {row.state for row in attempt_rows(house.context, run_id)} == {"released"}

    assert resume(house.context, run_id, ACTOR).ready == ("again",)
    wait_for(lambda: _states(house, run_id)["again"] == "succeeded")
    assert _shown(house, run_id).state == "waiting"
    assert [row.state for row in attempt_rows(house.context, run_id, "again")] == ["released", "succeeded"]
    cancel(house.context, run_id, ACTOR)
    assert run_state(house.context, run_id) is RunState.CANCELLED
    assert verify_run(house.context, run_id).findings == ()


def test_a_hard_pause_whose_push_is_lost_is_heard_with_the_next_heartbeat(station: Station, tmp_path: Path) -> None:
    house, pids = station.house, tmp_path / "pids"
    script = f"echo $$ >> {pids}; [ $AGENTFLOW_ATTEMPT -ge 2 ] || exec sleep 90"
    run_id = submitted(house.context, [shell_step("work", script)])
    wait_for(lambda: lines_of(pids))
    deaf = Runtime(house.settings.model_copy(update={"redis_prefix": f"elsewhere-{uuid4()}:"}))

    pause(deaf.context, run_id, ACTOR, is_hard=True)
    deaf.close()

    wait_for(lambda: not _running(house, run_id), 10)
    assert [row.state for row in attempt_rows(house.context, run_id)] == ["released"]
    resume(house.context, run_id, ACTOR)
    assert wait_for_end(house.context, run_id) is RunState.COMPLETED


def test_a_call_that_was_sent_before_a_hard_pause_is_charged_as_estimated(models: ModelStation) -> None:
    house, stub = models.house, models.stub
    step = {"id": "ask", "llm": {"model": "stub:hanging", "prompt": "Say something.", "max_tokens": 50}, "retry": 1}
    run_id = submitted(house.context, [step])
    arrival = wait_for(lambda: stub.arrivals and stub.arrivals[0])

    pause(house.context, run_id, ACTOR, is_hard=True)
    wait_for(lambda: not _running(house, run_id))

    assert arrival.is_abandoned.wait(10)
    with house.context.database.transaction() as tx:
        [usage] = spending.read_usage(tx, run_id)
    assert usage.estimated_calls == 1
    assert _states(house, run_id) == {"ask": "ready"}
    cancel(house.context, run_id, ACTOR)


def test_only_a_run_that_goes_on_is_paused_and_a_second_pause_can_only_harden(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("one"), noop_step("two", needs=[])])
    _claimed(house, run_id, "one")
    with pytest.raises(NotFound):
        pause(house.context, fresh_run_id(), ACTOR)

    assert pause(house.context, run_id, ACTOR, why="first") == PauseAsked(is_new=True, running=1)
    since = _row(house, run_id).rests_since
    assert pause(house.context, run_id, "other@test", why="second") == PauseAsked(is_new=False, running=1)
    assert not attempt_rows(house.context, run_id)[0].is_yield_requested
    assert pause(house.context, run_id, "other@test", is_hard=True) == PauseAsked(is_new=True, running=1)
    assert pause(house.context, run_id, "other@test", is_hard=True).is_new is False

    row = _row(house, run_id)
    assert (row.paused["actor"], row.paused["why"], row.paused["is_hard"]) == (ACTOR, "first", True)
    assert (row.rests_since, attempt_rows(house.context, run_id)[0].is_yield_requested) == (since, True)
    assert _events(house, run_id) == ["submit", "pause", "pause"]
    done = submitted(house.context, [noop_step("one")])
    assert work_off(house, done) is RunState.COMPLETED
    with pytest.raises(InvalidTransition, match=r"has ended \(completed\) and cannot be paused"):
        pause(house.context, done, ACTOR)
    assert _events(house, done) == ["submit", "finalize"]


def test_a_paused_run_is_sent_nothing_and_never_ends_before_it_is_resumed(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("one"), noop_step("two", needs=["one"])])
    claimed = _claimed(house, run_id, "one")
    pause(house.context, run_id, ACTOR)
    dispatcher = Dispatcher(house.context, "one:1")

    _settle(house, claimed)
    assert claim(house.context, run_id, StepKey("two"), "test:0") is ClaimRefusal.RUN_RESTS
    dispatcher.one_pass()
    assert step_rows(house.context, run_id)["two"].sent_at is None

    resume(house.context, run_id, ACTOR)
    two = _claimed(house, run_id, "two")
    pause(house.context, run_id, ACTOR)
    _settle(house, two)
    finalize(house.context, run_id, ACTOR)
    dispatcher.one_pass()
    assert run_state(house.context, run_id) is RunState.RUNNING
    resume(house.context, run_id, ACTOR)
    assert run_state(house.context, run_id) is RunState.COMPLETED
    assert verify_run(house.context, run_id).findings == ()


def test_the_time_of_a_pause_is_no_active_time(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("one"), noop_step("two", needs=[])])
    pause(house.context, run_id, ACTOR)
    with house.context.database.transaction() as tx:
        going = "UPDATE run_state SET started_at = now() - interval '100 s', rests_since = now() - interval '60 s'"
        tx.execute(text(going))
        assert 40 <= read_run(tx, run_id).usage.active_seconds < 45

    resume(house.context, run_id, ACTOR)

    assert 40 <= _claimed(house, run_id, "one").active_seconds_used < 50
    assert _row(house, run_id).rests_since is None


def test_a_step_that_fails_a_paused_run_and_a_cancel_lift_the_pause(house: Runtime) -> None:
    steps = [noop_step("one"), noop_step("two", needs=[], retry=1)]
    failing, cancelled = (submitted(house.context, steps) for _ in range(2))
    claims = [_claimed(house, failing, key) for key in ("one", "two")]
    for run_id in (failing, cancelled):
        pause(house.context, run_id, ACTOR)

    _settle(house, claims[1], Failed(Reason(ReasonCode.EXIT_CODE, {"exit_code": 1}), exit_code=1))
    assert run_state(house.context, failing) is RunState.FAILING
    with pytest.raises(InvalidTransition, match="is failing and cannot be paused"):
        pause(house.context, failing, ACTOR)
    _settle(house, claims[0])
    assert run_state(house.context, failing) is RunState.FAILED
    cancel(house.context, cancelled, ACTOR)
    assert run_state(house.context, cancelled) is RunState.CANCELLED
    for run_id in (failing, cancelled):
        assert (_row(house, run_id).paused, _row(house, run_id).rests_since) == (None, None)
        assert verify_run(house.context, run_id).findings == ()


def test_a_paused_and_exhausted_run_shows_the_pause_and_is_resumed_of_both_or_of_none(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("one")], budget={"tokens": 5})
    _exhaust(house, run_id, scope=f"run:{run_id}")
    since = _row(house, run_id).rests_since
    assert pause(house.context, run_id, ACTOR).is_new
    assert (_shown(house, run_id).state, _row(house, run_id).rests_since) == ("paused", since)

    with pytest.raises(InvalidTransition, match="is still exhausted, and stays paused: of 5 tokens"):
        resume(house.context, run_id, ACTOR)
    assert _shown(house, run_id).state == "paused"

    with house.context.database.transaction() as tx:
        tx.execute(text("UPDATE run_budget SET tokens = 50"))
    resume(house.context, run_id, ACTOR)
    row = _row(house, run_id)
    assert (row.paused, row.exhausted, row.rests_since) == (None, None, None)


def test_a_new_day_renews_the_budget_of_a_paused_run_and_leaves_its_pause(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("one")])
    _exhaust(house, run_id, resets_at=YESTERDAY)
    pause(house.context, run_id, ACTOR)
    since = _row(house, run_id).rests_since
    with house.context.database.transaction() as tx:
        assert runs.find_reset(tx, 10) == [run_id]

    resume_renewed(house.context, run_id, "dispatcher:test")

    row = _row(house, run_id)
    assert (row.exhausted, row.rests_since, row.rested_seconds) == (None, since, 0)
    assert _shown(house, run_id).state == "paused"
    assert claim(house.context, run_id, StepKey("one"), "test:0") is ClaimRefusal.RUN_RESTS
    resume_renewed(house.context, run_id, "dispatcher:test")
    assert _events(house, run_id) == ["submit", "pause", "resume"]


def test_a_held_step_that_is_retried_in_a_paused_run_waits_for_the_resume(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("one", on_lost="hold")])
    with house.context.database.transaction() as tx:
        held = "UPDATE step SET state = 'held', sent_at = NULL, not_before = NULL, reason = CAST(:why AS jsonb)"
        tx.execute(text(held), {"why": '{"code": "awaits_person", "detail": {"after": "worker_lost"}}'})
    pause(house.context, run_id, ACTOR)

    assert retry(house.context, run_id, ACTOR).ready == ("one",)

    assert _shown(house, run_id).state == "paused"
    assert claim(house.context, run_id, StepKey("one"), "test:0") is ClaimRefusal.RUN_RESTS


def test_a_resume_takes_back_what_a_hard_pause_asked_and_no_worker_has_heard(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("one", on_lost="hold")])
    other_id = submitted(house.context, [noop_step("one", on_lost="hold")])
    claims = [_claimed(house, each, "one") for each in (run_id, other_id)]
    for each in (run_id, other_id):
        pause(house.context, each, ACTOR, is_hard=True)
    assert [attempt.is_yield_requested for attempt in attempt_rows(house.context, run_id)] == [True]

    resume(house.context, run_id, ACTOR)

    asked = {each.run_id: attempt_rows(house.context, each.run_id)[0].is_yield_requested for each in claims}
    assert asked == {run_id: False, other_id: True}


def test_an_attempt_hears_first_that_it_is_cancelled_and_else_that_it_yields(house: Runtime) -> None:
    quick = Runtime(house.settings.model_copy(update={"lease_seconds": 1.0}))
    ask = "UPDATE attempt SET is_yield_requested = true, is_stop_requested = :is_cancelled WHERE run_id = :id"
    for is_cancelled, reason in ((False, StopReason.PAUSED), (True, StopReason.CANCELLED)):
        run_id = submitted(house.context, [noop_step("one")])
        claimed = _claimed(house, run_id, "one")
        with house.context.database.transaction() as tx:
            tx.execute(text(ask), {"id": run_id, "is_cancelled": is_cancelled})
        with quick.lease_keeper.keeping(claimed.attempt_id, claimed.claim_token, time.monotonic()) as lifeline:
            assert wait_for(lambda lifeline=lifeline: lifeline.stop_reason, 5) is reason
    quick.close()


def test_a_yield_that_is_heard_before_the_attempt_has_begun_is_remembered_as_one(house: Runtime) -> None:
    keeper, early = house.lease_keeper, AttemptId(uuid4())

    def heard() -> StopReason | None:
        house.context.side_channel.stop_attempts([early], StopKind.YIELD)
        with keeper.keeping(early, ClaimToken(uuid4()), time.monotonic()) as lifeline:
            return lifeline.stop_reason

    assert wait_for(heard, 5) is StopReason.PAUSED


def test_nothing_is_claimed_after_a_pause_has_returned_however_many_try(house: Runtime) -> None:
    keys = [f"s{number}" for number in range(40)]
    run_id = submitted(house.context, [noop_step(key) for key in keys])
    begun = threading.Barrier(9)
    paused_at: list[datetime] = []

    def try_all(first: int) -> list[Claimed]:
        begun.wait()
        return [
            claimed
            for key in keys[first:] + keys[:first]
            if isinstance(claimed := claim(house.context, run_id, StepKey(key), "test:0"), Claimed)
        ]

    def stop() -> PauseAsked:
        begun.wait()
        wait_for(lambda: attempt_rows(house.context, run_id))
        asked = pause(house.context, run_id, ACTOR)
        with house.context.database.transaction() as tx:  # the pause's own time is when its transaction began
            paused_at.append(tx.execute(text("SELECT clock_timestamp()")).scalar_one())
        return asked

    with ThreadPoolExecutor(9) as pool:
        claimers = [pool.submit(try_all, first * 5) for first in range(8)]
        asked = pool.submit(stop).result()
        claimed = [each for claimer in claimers for each in claimer.result()]

    assert 0 < asked.running == len(claimed) == _running(house, run_id)
    assert all(row.started_at <= paused_at[0] for row in attempt_rows(house.context, run_id))


def test_pauses_settles_and_a_cancel_at_once_leave_one_truth(house: Runtime) -> None:
    for turn in range(8):
        run_id = submitted(house.context, [noop_step("one"), noop_step("two", needs=["one"])])
        claimed = _claimed(house, run_id, "one")
        verbs: list[Callable[[], object]] = [
            lambda run_id=run_id: pause(house.context, run_id, ACTOR, is_hard=True),  # type: ignore[misc]
            lambda claimed=claimed: _settle(house, claimed),  # type: ignore[misc]
            lambda run_id=run_id: resume(house.context, run_id, ACTOR),  # type: ignore[misc]
            lambda run_id=run_id: cancel(house.context, run_id, ACTOR),  # type: ignore[misc]
        ]
        _all_at_once(verbs[turn % 4 :] + verbs[: turn % 4])

        assert wait_for_end(house.context, run_id) is RunState.CANCELLED
        assert (_row(house, run_id).paused, _row(house, run_id).rests_since) == (None, None)
        assert verify_run(house.context, run_id).findings == ()


def _all_at_once(verbs: list[Callable[[], object]]) -> None:
    begun = threading.Barrier(len(verbs))

    def play(verb: Callable[[], object]) -> None:
        begun.wait()
        with suppress(InvalidTransition):
            verb()

    with ThreadPoolExecutor(len(verbs)) as pool:
        for played in [pool.submit(play, verb) for verb in verbs]:
            played.result()
