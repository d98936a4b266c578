"""Schedules against a real Postgres: each due time fires once, whoever dies, freezes or races in between."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from agentflow.domain.error import InvalidTransition, NotFound, UsageError
from agentflow.domain.ids import RunId
from agentflow.domain.schedule import MOST_MISSED
from agentflow.engine import fire
from agentflow.engine.backfill import backfill
from agentflow.engine.cancel import cancel
from agentflow.engine.context import EngineContext
from agentflow.engine.create_schedule import create_schedule, examine_schedule
from agentflow.engine.delete_schedule import delete_schedule
from agentflow.engine.enable_schedule import pause_schedule, resume_schedule
from agentflow.engine.run_schedule import run_schedule
from agentflow.engine.scheduler import SERVICE, TERM_SECONDS, Scheduler
from agentflow.runtime import Runtime
from agentflow.storage import beat_entries, schedules
from agentflow.storage.beat_entries import BeatEntry, Term
from agentflow.storage.schedules import Schedule
from tests.factories import noop_step, run_state, step_rows, work_off
from tests.schedules import (
    firing_rows,
    house_events,
    move_anchor,
    pushed,
    request_of,
    schedule_row,
    scheduled,
    set_due,
    states_of,
)

ACTOR = "tester@test"


@pytest.fixture
def context(house: Runtime) -> EngineContext:
    """An installation with a stored plan."""
    pushed(house.context)
    return house.context


def _pass(context: EngineContext, holder: str = "beat@a:1") -> Scheduler:
    keeper = Scheduler(context, holder)
    keeper.one_pass()
    return keeper


def _runs(context: EngineContext) -> int:
    with context.database.transaction() as tx:
        return int(tx.execute(text("SELECT count(*) FROM run")).scalar_one())


def _fire(context: EngineContext, schedule: Schedule) -> RunId:
    """Let a due time fire; returns its run."""
    due = set_due(context, schedule)
    _pass(context)
    (row,) = [row for row in firing_rows(context, schedule) if row.due_at == due]
    assert row.state == "started", row
    return RunId(row.run_id)


def _rest(context: EngineContext, run_id: RunId) -> None:
    """Let a run wait for a person, as its record says it."""
    with context.database.transaction() as tx:
        held = "UPDATE step SET state = 'held', sent_at = NULL, reason = CAST(:why AS jsonb) WHERE run_id = :id"
        tx.execute(text(held), {"id": run_id, "why": '{"code": "awaits_person", "detail": {"after": "worker_lost"}}'})


def test_what_is_due_fires_once_and_goes_on_from_there(house: Runtime, context: EngineContext) -> None:
    schedule = scheduled(context, every="1h", vars={})
    _pass(context)
    assert firing_rows(context, schedule) == []
    run_id = _fire(context, schedule)
    _pass(context)
    assert states_of(context, schedule) == ["started"]
    assert work_off(house, run_id) == "completed"
    row = schedule_row(context, schedule)
    assert row.next_at > row.created_at
    with context.database.transaction() as tx:
        stored = tx.execute(text("SELECT actor, idempotency_key FROM run")).one()
    due = firing_rows(context, schedule)[0].due_at
    assert stored.actor == "schedule:nightly"
    assert stored.idempotency_key == f"schedule:{schedule.id}:{due.isoformat()}"


def test_schedulers_that_race_fire_each_due_time_once(context: EngineContext) -> None:
    schedule = scheduled(context, every="2s", overlap="allow")
    move_anchor(context, schedule, timedelta(seconds=21))
    barrier = threading.Barrier(4)

    def race(number: int) -> None:
        barrier.wait()
        for _ in range(3):
            fire.note_due(context, schedule.id)
            fire.take_up(context, schedule.id, 20)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(race, range(4)))
    _pass(context)
    rows = firing_rows(context, schedule)
    assert {row.state for row in rows} == {"started"}
    assert len({row.run_id for row in rows}) == len(rows) == _runs(context) >= 11


@pytest.mark.parametrize("state", ["due", "starting", "started"])
def test_a_beat_that_dies_in_between_leaves_the_firing_to_the_next(context: EngineContext, state: str) -> None:
    """It dies after it noted the firing, after it decided, or after it submitted, each before the next commit."""
    schedule = scheduled(context)
    set_due(context, schedule)
    fire.note_due(context, schedule.id)
    if state != "due":
        fire.take_up(context, schedule.id, 0 if state == "starting" else 1)
    assert states_of(context, schedule) == [state]
    with context.database.transaction() as tx:
        tx.execute(text("UPDATE firing SET state = 'starting', run_id = NULL WHERE state = 'started'"))
    pushed(context, [noop_step("another")])  # a new version must not make it another submission
    _pass(context)
    assert states_of(context, schedule) == ["started"]
    assert firing_rows(context, schedule)[0].run_id is not None
    assert _runs(context) == 1


def test_what_one_beat_decided_another_does_not_decide_anew(context: EngineContext) -> None:
    schedule = scheduled(context, cron="@yearly")
    first = set_due(context, schedule, timedelta(seconds=3))
    fire.note_due(context, schedule.id)
    fire.take_up(context, schedule.id, 0)  # and then it freezes
    second = set_due(context, schedule)
    _pass(context)
    rows = firing_rows(context, schedule)
    assert [(row.due_at, row.state) for row in rows] == [(first, "started"), (second, "skipped")]
    assert _runs(context) == 1


def test_nobody_decides_about_a_schedule_that_another_is_deciding_about(context: EngineContext) -> None:
    schedule = scheduled(context)
    set_due(context, schedule)
    fire.note_due(context, schedule.id)
    with context.database.transaction() as tx:
        assert schedules.take(tx, schedule.id) is not None
        assert fire.take_up(context, schedule.id, 20) == 0
        assert fire.note_due(context, schedule.id) is False
        assert states_of(context, schedule) == ["due"]
    fire.take_up(context, schedule.id, 20)
    assert states_of(context, schedule) == ["started"]


def test_a_firing_that_is_being_submitted_is_not_taken_back(context: EngineContext) -> None:
    schedule = scheduled(context)
    set_due(context, schedule)
    fire.note_due(context, schedule.id)
    fire.take_up(context, schedule.id, 0)
    assert pause_schedule(context, "default", "nightly", ACTOR) == 0
    _pass(context)
    assert states_of(context, schedule) == ["started"]


def test_a_firing_of_a_users_entry_is_taken_once_and_only_by_who_leads(context: EngineContext) -> None:
    term, stranger = Scheduler(context, "beat@a:1").elect(), Term(SERVICE, "beat@b:2", 1)
    assert term is not None
    first = datetime(2026, 11, 21, 12, tzinfo=UTC)
    second, third = first + timedelta(minutes=1), first + timedelta(minutes=2)
    with context.database.transaction() as tx:
        beat_entries.register(tx, {"tick": first})
        beat_entries.register(tx, {"tick": second})
        assert not beat_entries.claim(tx, stranger, "tick", first, second)
        assert beat_entries.claim(tx, term, "tick", first, second)
        assert not beat_entries.claim(tx, term, "tick", first, third)
        assert beat_entries.read(tx, ["tick", "tock"]) == {"tick": BeatEntry(second, 1)}
        beat_entries.give_back(tx, "tick", first, third)
        assert beat_entries.read(tx, ["tick"]) == {"tick": BeatEntry(second, 1)}
        beat_entries.give_back(tx, "tick", first, second)
        assert beat_entries.read(tx, ["tick"]) == {"tick": BeatEntry(first, 0)}


def test_only_the_leader_fires_and_another_follows_when_its_term_is_over(context: EngineContext) -> None:
    schedule = scheduled(context)
    leading = _pass(context, "beat@a:1")
    assert leading.term is not None
    set_due(context, schedule)
    assert _pass(context, "beat@b:2").term is None
    assert firing_rows(context, schedule) == []
    with context.database.transaction() as tx:
        seconds = tx.execute(text("SELECT extract(epoch FROM expires_at - now()) FROM leader")).scalar_one()
        assert 0 < seconds <= TERM_SECONDS
        tx.execute(text("UPDATE leader SET expires_at = now()"))
    assert _pass(context, "beat@b:2").term is not None
    assert states_of(context, schedule) == ["started"]


def test_skip_skips_while_a_run_is_active_and_says_which(house: Runtime, context: EngineContext) -> None:
    schedule = scheduled(context, overlap="skip")
    run_id = _fire(context, schedule)
    set_due(context, schedule)
    _pass(context)
    skipped = firing_rows(context, schedule)[1]
    assert (skipped.state, skipped.reason) == (
        "skipped",
        {"code": "overlaps", "detail": {"run": str(run_id), "state": "running"}},
    )
    work_off(house, run_id)
    _fire(context, schedule)
    assert states_of(context, schedule) == ["started", "skipped", "started"]


def test_queue_starts_what_waits_in_order_and_skips_what_is_too_much(house: Runtime, context: EngineContext) -> None:
    schedule = scheduled(context, overlap="queue", queue_depth=1)
    run_id = _fire(context, schedule)
    for _ in range(2):
        set_due(context, schedule)
        _pass(context)
    assert states_of(context, schedule) == ["started", "queued", "skipped"]
    work_off(house, run_id)
    _pass(context)
    assert states_of(context, schedule) == ["started", "started", "skipped"]


def test_cancel_previous_starts_only_when_the_run_before_has_really_ended(
    house: Runtime, context: EngineContext
) -> None:
    pushed(context, [noop_step("one"), noop_step("two", needs=["one"])])
    schedule = scheduled(context, overlap="cancel-previous")
    run_id = _fire(context, schedule)
    with context.database.transaction() as tx:  # an attempt that a worker has not ended yet
        tx.execute(
            text("UPDATE step SET state = 'running', sent_at = NULL, attempts = 1 WHERE run_id = :id AND key = 'one'"),
            {"id": run_id},
        )
    set_due(context, schedule)
    _pass(context)
    _pass(context)
    assert run_state(context, run_id) == "cancelling"
    assert states_of(context, schedule) == ["started", "queued"]
    set_due(context, schedule)
    _pass(context)
    assert states_of(context, schedule) == ["started", "skipped", "queued"]
    assert firing_rows(context, schedule)[1].reason["code"] == "superseded"
    with context.database.transaction() as tx:
        tx.execute(text("UPDATE step SET state = 'cancelled' WHERE run_id = :id"), {"id": run_id})
        tx.execute(
            text("UPDATE run_state SET state = 'cancelled', ended_at = now() WHERE run_id = :id"), {"id": run_id}
        )
    _pass(context)
    assert states_of(context, schedule) == ["started", "skipped", "started"]


def test_allow_lets_runs_overlap(context: EngineContext) -> None:
    schedule = scheduled(context, overlap="allow")
    assert _fire(context, schedule) != _fire(context, schedule)
    assert states_of(context, schedule) == ["started", "started"]


@pytest.mark.parametrize(("overlap", "state"), [("skip", "skipped"), ("queue", "queued")])
def test_a_resting_run_holds_a_schedule_up_and_that_is_told_once(
    house: Runtime, context: EngineContext, overlap: str, state: str
) -> None:
    schedule = scheduled(context, overlap=overlap)
    run_id = _fire(context, schedule)
    _rest(context, run_id)
    for _ in range(2):
        set_due(context, schedule)
        _pass(context)
        _pass(context)
    assert states_of(context, schedule)[:2] == ["started", state]
    assert firing_rows(context, schedule)[-1].state == "skipped"
    assert schedule_row(context, schedule).held_since is not None
    assert house_events(context, schedule.subject) == ["create_schedule", "schedule_held"]
    cancel(context, run_id, ACTOR)
    _fire(context, schedule) if overlap == "skip" else None
    _pass(context)
    assert schedule_row(context, schedule).held_since is None
    assert house_events(context, schedule.subject).count("schedule_held") == 1


def test_after_an_outage_what_is_in_the_window_fires_and_the_rest_was_missed(context: EngineContext) -> None:
    schedule = scheduled(context, every="1m", overlap="allow", catch_up="3m")
    move_anchor(context, schedule, timedelta(minutes=10, seconds=30))
    _pass(context)
    assert states_of(context, schedule) == ["missed"] * 8 + ["started"] * 3
    assert firing_rows(context, schedule)[0].reason == {"code": "caught_up", "detail": {}}


def test_of_what_is_caught_up_with_skip_runs_the_latest(context: EngineContext) -> None:
    schedule = scheduled(context, every="1m", overlap="skip", catch_up="3m")
    move_anchor(context, schedule, timedelta(minutes=10, seconds=30))
    _pass(context)
    assert states_of(context, schedule)[-3:] == ["skipped", "skipped", "started"]
    assert _runs(context) == 1


def test_a_year_without_a_beat_leaves_a_bounded_record(context: EngineContext) -> None:
    schedule = scheduled(context, cron="* * * * *")
    set_due(context, schedule, timedelta(days=365))
    _pass(context)
    rows = firing_rows(context, schedule)
    missed = [row for row in rows if row.state == "missed"]
    assert len(missed) == MOST_MISSED
    assert "until" in missed[-1].reason["detail"]
    assert rows[-1].state == "started"
    assert len(rows) < MOST_MISSED + 15


def test_a_backfill_tells_what_it_would_do_and_then_does_it_one_by_one(house: Runtime, context: EngineContext) -> None:
    schedule = scheduled(context, every="1m", catch_up="1m")
    move_anchor(context, schedule, timedelta(minutes=4, seconds=30))
    _pass(context)
    missed = [row.due_at for row in firing_rows(context, schedule) if row.state == "missed"]
    started = [row.due_at for row in firing_rows(context, schedule) if row.state == "started"]
    span = (missed[0], started[0])
    dry = backfill(context, "default", "nightly", *span, ACTOR, is_dry=True)
    assert (list(dry.queued), list(dry.existing)) == (missed, started)
    assert "queued" not in states_of(context, schedule)
    done = backfill(context, "default", "nightly", *span, ACTOR, is_dry=False)
    assert done.queued == dry.queued
    again = backfill(context, "default", "nightly", *span, ACTOR, is_dry=False)
    assert (again.queued, len(again.existing)) == ((), 5)
    for number in range(4):
        assert states_of(context, schedule).count("started") == number + 1
        for row in firing_rows(context, schedule):
            if row.run_id is not None:
                work_off(house, RunId(row.run_id))
        _pass(context)
    assert states_of(context, schedule) == ["started"] * 5
    assert house_events(context, schedule.subject) == ["create_schedule", "backfill"]


def test_a_backfill_takes_no_due_time_away_from_a_schedule_that_skips(house: Runtime, context: EngineContext) -> None:
    schedule = scheduled(context, every="1m", catch_up="1m", overlap="skip")
    move_anchor(context, schedule, timedelta(minutes=4, seconds=30))
    _pass(context)
    regular = [row for row in firing_rows(context, schedule) if row.state == "started"]
    missed = [row.due_at for row in firing_rows(context, schedule) if row.state == "missed"]
    backfill(context, "default", "nightly", missed[0], missed[-1], ACTOR, is_dry=False)
    work_off(house, RunId(regular[0].run_id))
    _pass(context)
    (filling,) = [row for row in firing_rows(context, schedule) if row.state == "started" and row.cause == "backfill"]

    due = set_due(context, schedule)
    _pass(context)
    (waiting,) = [row for row in firing_rows(context, schedule) if row.due_at == due]
    work_off(house, RunId(filling.run_id))
    _pass(context)

    (started,) = [row for row in firing_rows(context, schedule) if row.due_at == due]
    assert (waiting.state, started.state) == ("queued", "started")
    backfilled = [row.state for row in firing_rows(context, schedule) if row.cause == "backfill"]
    assert backfilled.count("started") == 1
    assert "queued" in backfilled


def test_a_backfill_of_the_future_or_of_too_much_is_refused(context: EngineContext) -> None:
    schedule = scheduled(context, cron="* * * * *")
    now = schedule.at
    for since, until, words in (
        (now, now + timedelta(hours=1), "yet to come"),
        (now, now - timedelta(hours=1), "is after"),
        (now - timedelta(days=30), now, "shorter stretch"),
    ):
        with pytest.raises(UsageError, match=words):
            backfill(context, "default", "nightly", since, until, ACTOR, is_dry=False)
    assert firing_rows(context, schedule) == []


def test_a_firing_that_cannot_be_submitted_is_refused_by_a_code(context: EngineContext) -> None:
    schedule = scheduled(context)
    pushed(context, [noop_step("one")], vars={"day": {"required": True}})
    set_due(context, schedule)
    _pass(context)
    with context.database.transaction() as tx:
        tx.execute(text("DELETE FROM stored_plan"))
    set_due(context, schedule)
    _pass(context)
    assert [row.reason["detail"]["problem"] for row in firing_rows(context, schedule)] == [
        "missing_var",
        "plan_missing",
    ]
    assert states_of(context, schedule) == ["refused", "refused"]


def test_a_content_store_that_is_away_is_waited_for(context: EngineContext) -> None:
    schedule, keeper = scheduled(context), Scheduler(context, "beat@a:1")
    pushed(context, [noop_step("one")], files=[])
    root = context.settings.content_root()
    set_due(context, schedule)
    root.rename(root.with_name("away"))
    keeper.one_pass()
    assert states_of(context, schedule) == ["starting"]
    root.with_name("away").rename(root)
    _pass(context)
    assert states_of(context, schedule) == ["started"]


def test_a_pinned_version_stays_and_an_open_one_follows(context: EngineContext) -> None:
    pinned, following = scheduled(context, "pinned", plan_version=1), scheduled(context, "following")
    newer = pushed(context, [noop_step("newer")])
    runs = {schedule.name: _fire(context, schedule) for schedule in (pinned, following)}
    assert set(step_rows(context, runs["pinned"])) == {"one"}
    assert set(step_rows(context, runs["following"])) == {step.id for step in newer.steps}


def test_a_plan_that_asks_for_it_is_told_its_due_time(context: EngineContext) -> None:
    pushed(context, [noop_step("one")], vars={"due_at": {"required": True}, "kind": "full"})
    schedule = scheduled(
        context, cron="0 6 * * *", time_zone="Europe/Berlin", vars={"kind": "delta"}, budget={"steps": 5}
    )
    run_id = _fire(context, schedule)
    due = firing_rows(context, schedule)[0].due_at
    with context.database.transaction() as tx:
        values = tx.execute(text("SELECT vars FROM run WHERE id = :id"), {"id": run_id}).scalar_one()
        assert tx.execute(text("SELECT steps FROM run_budget WHERE run_id = :id"), {"id": run_id}).scalar_one() == 5
    assert values["kind"] == "delta"
    assert values["due_at"].endswith("+01:00")
    assert datetime.fromisoformat(values["due_at"]) == due


def test_every_fault_is_told_before_anything_is_kept(context: EngineContext) -> None:
    with pytest.raises(UsageError) as refused:
        examine_schedule(
            context,
            request_of("bad", cron="61 * * * *", overlap="x", vars={"nope": 1}, budget={"token": 5}),
        )
    assert [fault["field"] for fault in refused.value.details["problems"]] == [
        "cron", "overlap", "budget.token", "vars.nope",
    ]  # fmt: skip
    with pytest.raises(UsageError, match=r"plan: No plan is stored as 'testing'.*did you mean 'tested'"):
        examine_schedule(context, request_of(plan="testing"))
    schedule = scheduled(context)
    with pytest.raises(UsageError, match="already"):
        create_schedule(context, schedule, ACTOR)
    assert house_events(context, schedule.subject) == ["create_schedule"]


def test_a_stopped_schedule_fires_nothing_skips_what_waits_and_catches_up_with_nothing(context: EngineContext) -> None:
    schedule = scheduled(context, overlap="queue")
    _fire(context, schedule)
    set_due(context, schedule)
    _pass(context)
    assert pause_schedule(context, "default", "nightly", ACTOR) == 1
    assert pause_schedule(context, "default", "nightly", ACTOR) is None
    set_due(context, schedule, timedelta(minutes=5))
    _pass(context)
    assert states_of(context, schedule) == ["started", "skipped"]
    assert firing_rows(context, schedule)[1].reason == {"code": "paused", "detail": {"actor": ACTOR}}
    assert resume_schedule(context, "default", "nightly", ACTOR)
    assert not resume_schedule(context, "default", "nightly", ACTOR)
    _pass(context)
    assert states_of(context, schedule) == ["started", "skipped"]
    row = schedule_row(context, schedule)
    assert row.next_at > row.updated_at
    assert house_events(context, schedule.subject) == ["create_schedule", "pause_schedule", "resume_schedule"]


def test_a_schedule_is_fired_by_hand_without_a_beat_and_its_overlap_holds(
    house: Runtime, context: EngineContext
) -> None:
    schedule = scheduled(context, is_enabled=False)
    fired = run_schedule(context, "default", "nightly", ACTOR)
    assert (fired.state, fired.cause) == ("started", "run_now")
    with pytest.raises(InvalidTransition, match="its overlap is skip"):
        run_schedule(context, "default", "nightly", ACTOR)
    assert fired.run_id is not None
    work_off(house, RunId(fired.run_id))
    assert run_schedule(context, "default", "nightly", ACTOR).state == "started"
    assert states_of(context, schedule) == ["started", "started"]
    assert house_events(context, schedule.subject) == ["create_schedule", "run_schedule", "run_schedule"]
    waiting = scheduled(context, "waiting", overlap="queue")
    run_schedule(context, "default", "waiting", ACTOR)
    assert run_schedule(context, "default", "waiting", ACTOR).state == "queued"
    assert states_of(context, waiting) == ["started", "queued"]


def test_a_deleted_schedule_is_gone_and_its_runs_stay(context: EngineContext) -> None:
    schedule = scheduled(context)
    run_id = _fire(context, schedule)
    delete_schedule(context, "default", "nightly", ACTOR)
    assert firing_rows(context, schedule) == []
    assert run_state(context, run_id) == "running"
    for verb in (pause_schedule, resume_schedule, run_schedule, delete_schedule):
        with pytest.raises(NotFound, match="no schedule nightly in project default"):
            verb(context, "default", "nightly", ACTOR)
    assert house_events(context, schedule.subject) == ["create_schedule", "delete_schedule"]


def test_a_time_fires_once_and_never_again(context: EngineContext) -> None:
    schedule = scheduled(context, at=(scheduled(context, "other").at + timedelta(hours=1)).isoformat())
    assert schedule_row(context, schedule).next_at == schedule.timing.next_after(schedule.at)
    with context.database.transaction() as tx:
        tx.execute(
            text("UPDATE schedule SET spec = jsonb_build_object('at', now()), next_at = now(), fire_at = now() "
                 "WHERE id = :id"), {"id": schedule.id}
        )  # fmt: skip
    _pass(context)
    assert states_of(context, schedule) == ["started"]
    row = schedule_row(context, schedule)
    assert (row.next_at, row.fire_at) == (None, None)


def test_one_schedule_that_cannot_be_read_stops_no_other(context: EngineContext) -> None:
    broken, sound = scheduled(context, "broken", time_zone="Europe/Berlin"), scheduled(context, "sound")
    for schedule in (broken, sound):
        set_due(context, schedule)
    with context.database.transaction() as tx:
        tx.execute(text("UPDATE schedule SET spec = '{}' WHERE id = :id"), {"id": broken.id})
    _pass(context)
    assert states_of(context, sound) == ["started"]
    assert firing_rows(context, broken) == []


def test_jitter_delays_the_firing_not_the_due_time(context: EngineContext) -> None:
    schedule = scheduled(context, every="1h", jitter="30m")
    row = schedule_row(context, schedule)
    assert row.fire_at == schedule.pace.fire_at(row.next_at)
    assert timedelta() <= row.fire_at - row.next_at < timedelta(minutes=30)


def test_of_many_schedules_that_wait_a_pass_attends_to_some_and_the_next_to_others(
    house: Runtime, context: EngineContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentflow.engine.scheduler.BATCH", 2)
    waiting = [scheduled(context, f"waiting{number}", overlap="queue") for number in range(5)]
    for _ in range(2):
        for schedule in waiting:
            set_due(context, schedule)
        for _ in range(4):
            _pass(context)
    assert [states_of(context, schedule) for schedule in waiting] == [["started", "queued"]] * 5
    last = max(waiting, key=lambda schedule: schedule.id)
    work_off(house, RunId(firing_rows(context, last)[0].run_id))
    new = scheduled(context, "new")
    set_due(context, new)

    keeper, states = Scheduler(context, "beat@a:1"), []
    for _ in range(3):
        keeper.one_pass()
        states.append((states_of(context, new), states_of(context, last)[1]))

    assert states == [(["started"], "queued"), (["started"], "queued"), (["started"], "started")]


def test_a_schedule_that_was_fired_by_hand_starts_by_beat_what_could_not_start_then(context: EngineContext) -> None:
    pushed(context, [{"id": "a", "subprocess": {"command": ["cat"], "stdin": "hello"}}], name="speaks")
    schedule = scheduled(context, plan="speaks", overlap="queue")
    root = context.store.root  # type: ignore[attr-defined]  # the shared directory
    root.rename(root.with_name("away"))

    fired = run_schedule(context, "default", "nightly", ACTOR)

    assert (fired.state, fired.run_id) == ("starting", None)
    root.with_name("away").rename(root)
    _pass(context)
    assert states_of(context, schedule) == ["started"]
