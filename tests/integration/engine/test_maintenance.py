"""Under maintenance nothing starts: what is there is paused, what comes rests from the first moment."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlalchemy.exc import ProgrammingError

from agentflow.domain.error import InvalidTransition
from agentflow.domain.ids import INSTALLATION_CHAIN, RunId, StepKey
from agentflow.domain.outcome import ClaimRefusal
from agentflow.domain.state import RunState
from agentflow.engine import maintenance
from agentflow.engine.cancel import cancel
from agentflow.engine.claim import Claimed, claim
from agentflow.engine.dispatcher import Dispatcher
from agentflow.engine.maintenance import MaintenanceBegun, MaintenanceEnded, pause_all, resume_all
from agentflow.engine.pause import pause
from agentflow.engine.resume import resume, resume_renewed
from agentflow.engine.retry import retry
from agentflow.engine.verify import verify_run
from agentflow.runtime import Runtime
from agentflow.storage import events, installations, views
from agentflow.storage.database import ConflictingWrite
from tests.factories import (
    attempt_rows,
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
from tests.integration.engine.conftest import Station
from tests.integration.engine.test_pausing import YESTERDAY, _events, _exhaust, _row, _running, _shown

ACTOR = "tester@test"


def _scope(house: Runtime, run_id: RunId) -> str | None:
    paused = _row(house, run_id).paused
    return paused and str(paused["scope"])


def _house_events(house: Runtime) -> list[Any]:
    with house.context.database.transaction() as tx:
        return [event for event, _ in events.read_run(tx, INSTALLATION_CHAIN)]


def _claim(house: Runtime, run_id: RunId) -> object:
    return claim(house.context, run_id, StepKey("one"), "test:0")


def test_everything_is_paused_with_one_word_and_goes_on_with_another(station: Station, tmp_path: Path) -> None:
    house, marker = station.house, tmp_path / "marker"
    script = f"echo $AGENTFLOW_RUN_ID >> {marker}; [ $AGENTFLOW_ATTEMPT -ge 2 ] || exec sleep 90"
    before = [submitted(house.context, [shell_step("one", script)]) for _ in range(2)]
    wait_for(lambda: len(lines_of(marker)) == 2)

    begun = pause_all(house.context, ACTOR, why="a new disk", is_hard=True)
    assert begun.is_new
    assert begun.running <= 2  # what was told to end may have done so before it was counted
    meanwhile = submitted(house.context, [shell_step("one", f"echo $AGENTFLOW_RUN_ID >> {marker}")])
    wait_for(lambda: not _running(house, before[0]) and not _running(house, before[1]))

    for run_id in (*before, meanwhile):
        shown = _shown(house, run_id)
        assert shown.reason is not None
        detail = {name: shown.reason["detail"][name] for name in ("actor", "why", "scope")}
        assert (shown.state, detail) == ("paused", {"actor": ACTOR, "why": "a new disk", "scope": "maintenance"})
    assert (len(lines_of(marker)), step_rows(house.context, meanwhile)["one"].sent_at) == (2, None)

    assert resume_all(house.context, ACTOR) == MaintenanceEnded(True, 3)
    for run_id in (*before, meanwhile):
        assert wait_for_end(house.context, run_id) is RunState.COMPLETED
        assert verify_run(house.context, run_id).findings == ()
    assert len(lines_of(marker)) == 5
    started, ended = _house_events(house)
    assert (started.action, started.actor, started.reason["detail"]["why"]) == ("pause_all", ACTOR, "a new disk")
    assert (ended.action, ended.sequence) == ("resume_all", started.sequence + 1)
    assert _events(house, meanwhile) == ["submit", "resume", "finalize"]


def test_no_run_starts_under_maintenance_however_close_its_submit_was(house: Runtime) -> None:
    def submit_some(begun: threading.Barrier) -> list[RunId]:
        begun.wait()
        return [submitted(house.context, [noop_step("one")]) for _ in range(4)]

    for _ in range(6):
        begun = threading.Barrier(4)
        with ThreadPoolExecutor(4) as pool:
            submits = [pool.submit(submit_some, begun) for _ in range(3)]
            begun.wait()
            pause_all(house.context, ACTOR)
            run_ids = [run_id for each in submits for run_id in each.result()]

        assert [_scope(house, run_id) for run_id in run_ids] == ["maintenance"] * 12
        assert {_claim(house, run_id) for run_id in run_ids} == {ClaimRefusal.RUN_RESTS}
        assert resume_all(house.context, ACTOR).resumed == 12
        assert {_scope(house, run_id) for run_id in run_ids} == {None}
        for run_id in run_ids:
            cancel(house.context, run_id, ACTOR)
            assert verify_run(house.context, run_id).findings == ()


def test_a_submit_that_is_on_its_way_is_waited_for_and_paused(house: Runtime) -> None:
    with ThreadPoolExecutor(1) as pool:
        with house.context.database.transaction() as tx:
            assert installations.enter(tx) is None
            begun = pool.submit(pause_all, house.context, ACTOR)
            waiting = text("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted")
            with house.context.database.autocommit() as connection:
                wait_for(lambda: connection.execute(waiting).scalar_one())
            assert not begun.done()
        assert begun.result().is_new

    with house.context.database.transaction() as tx:
        assert installations.enter(tx) is not None


def test_what_a_person_paused_stays_that_persons(house: Runtime) -> None:
    own, other, taken = (submitted(house.context, [noop_step("one")]) for _ in range(3))
    pause(house.context, own, "anna@test", why="mine")

    assert pause_all(house.context, ACTOR).paused == 2
    assert pause(house.context, taken, "anna@test", why="this one too").is_new
    assert resume_all(house.context, ACTOR).resumed == 1

    assert [_scope(house, run_id) for run_id in (own, other, taken)] == ["run", None, "run"]
    assert _row(house, taken).paused["why"] == "this one too"
    resume(house.context, own, "anna@test")
    assert isinstance(_claim(house, own), Claimed)


def test_a_hard_maintenance_ends_also_what_a_soft_pause_had_left_running(house: Runtime) -> None:
    own = submitted(house.context, [noop_step("one")])
    assert isinstance(_claim(house, own), Claimed)
    pause(house.context, own, "anna@test")

    assert pause_all(house.context, ACTOR) == MaintenanceBegun(True, 0, 1)
    assert not attempt_rows(house.context, own)[0].is_yield_requested
    assert pause_all(house.context, ACTOR, is_hard=True) == MaintenanceBegun(True, 1, 1)

    assert attempt_rows(house.context, own)[0].is_yield_requested
    assert (_scope(house, own), _row(house, own).paused["actor"]) == ("run", "anna@test")
    assert [event.facts["is_hard"] for event in _house_events(house)] == [False, True]


def test_no_run_is_resumed_alone_under_maintenance(house: Runtime) -> None:
    own, other = (submitted(house.context, [noop_step("one")]) for _ in range(2))
    pause(house.context, own, ACTOR)
    pause_all(house.context, "anna@test")

    with pytest.raises(InvalidTransition, match=r"maintenance by anna@test. End that first: agentflow resume --all.$"):
        resume(house.context, other, ACTOR)
    with pytest.raises(InvalidTransition, match="Its own pause stays then"):
        resume(house.context, own, ACTOR)

    assert [_scope(house, run_id) for run_id in (own, other)] == ["run", "maintenance"]
    cancel(house.context, other, ACTOR)
    assert run_state(house.context, other) is RunState.CANCELLED


def test_a_retry_and_the_end_of_a_day_start_nothing_under_maintenance(house: Runtime) -> None:
    failed = submitted(house.context, [noop_step("one")])
    cancel(house.context, failed, ACTOR)
    over = submitted(house.context, [noop_step("one")])
    _exhaust(house, over, resets_at=YESTERDAY)
    pause_all(house.context, ACTOR)

    retry(house.context, failed, ACTOR)
    resume_renewed(house.context, over, "dispatcher:test")

    assert [_scope(house, run_id) for run_id in (failed, over)] == ["maintenance"] * 2
    assert _row(house, over).exhausted is None
    assert {_claim(house, run_id) for run_id in (failed, over)} == {ClaimRefusal.RUN_RESTS}
    Dispatcher(house.context, "one:1").one_pass()
    assert step_rows(house.context, failed)["one"].sent_at is None
    resume_all(house.context, ACTOR)
    assert work_off(house, failed) is RunState.COMPLETED
    assert verify_run(house.context, failed).findings == ()


def test_a_run_that_the_maintenance_has_yet_to_reach_is_renewed_only_afterwards(house: Runtime) -> None:
    over = submitted(house.context, [noop_step("one")])
    _exhaust(house, over, resets_at=YESTERDAY)
    with house.context.database.transaction() as tx:
        tx.execute(text("UPDATE installation SET maintenance = :it"), {"it": _flag()})

    resume_renewed(house.context, over, "dispatcher:test")

    assert _row(house, over).exhausted is not None


def _flag() -> str:
    return '{"actor": "a", "why": null, "at": "2026-01-01T00:00:00Z", "is_hard": false, "scope": "maintenance"}'


def test_the_end_of_a_maintenance_leaves_what_rests_over_a_budget(house: Runtime) -> None:
    over = submitted(house.context, [noop_step("one")])
    _exhaust(house, over)
    since = _row(house, over).rests_since
    pause_all(house.context, ACTOR)

    assert resume_all(house.context, ACTOR).resumed == 1

    row = _row(house, over)
    assert (row.paused, row.rests_since, _shown(house, over).state) == (None, since, "exhausted")


BROKEN_OFF = """
CREATE FUNCTION break_off() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'broken off'; END $$;
CREATE TRIGGER break_off BEFORE UPDATE OF paused ON run_state FOR EACH ROW WHEN (NEW.run_id = '{run_id}')
EXECUTE FUNCTION break_off()
"""


@contextmanager
def _broken_off_at(house: Runtime, run_id: RunId) -> Iterator[None]:
    """Let a verb be broken off when it comes to a run."""
    with house.context.database.transaction() as tx:
        tx.execute(text(BROKEN_OFF.format(run_id=run_id)))
    with pytest.raises(ProgrammingError, match="broken off"):
        yield
    with house.context.database.transaction() as tx:
        tx.execute(text("DROP FUNCTION break_off CASCADE"))


def test_what_was_broken_off_on_the_way_is_continued_by_calling_again(
    house: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maintenance, "BATCH", 2)
    run_ids = sorted(submitted(house.context, [noop_step("one")]) for _ in range(5))

    with _broken_off_at(house, run_ids[2]):
        pause_all(house.context, ACTOR)
    assert [_scope(house, run_id) for run_id in run_ids] == ["maintenance"] * 2 + [None] * 3
    assert pause_all(house.context, "other@test") == MaintenanceBegun(is_new=False, paused=3, running=0)
    assert _row(house, run_ids[4]).paused["actor"] == ACTOR

    with _broken_off_at(house, run_ids[2]):
        resume_all(house.context, ACTOR)
    assert [_scope(house, run_id) for run_id in run_ids] == [None] * 2 + ["maintenance"] * 3
    # What was left behind can also be resumed by itself, now that no maintenance stands.
    resume(house.context, run_ids[4], ACTOR)
    assert resume_all(house.context, ACTOR) == MaintenanceEnded(is_new=False, resumed=2)
    assert resume_all(house.context, ACTOR) == MaintenanceEnded(is_new=False, resumed=0)
    assert [event.action for event in _house_events(house)] == ["pause_all", "resume_all"]
    assert {tuple(_events(house, run_id)) for run_id in run_ids} == {("submit", "pause", "resume")}


def test_the_dispatcher_finishes_what_nobody_calls_again(house: Runtime) -> None:
    run_ids = sorted(submitted(house.context, [noop_step("one")]) for _ in range(4))

    with _broken_off_at(house, run_ids[2]):
        pause_all(house.context, ACTOR, is_hard=True)
    Dispatcher(house.context, "one:1").one_pass()
    assert [_scope(house, run_id) for run_id in run_ids] == ["maintenance"] * 4
    assert _row(house, run_ids[3]).paused["actor"] == ACTOR

    with _broken_off_at(house, run_ids[2]):
        resume_all(house.context, ACTOR)
    Dispatcher(house.context, "one:1").one_pass()
    assert [_scope(house, run_id) for run_id in run_ids] == [None] * 4
    assert {tuple(_events(house, run_id)) for run_id in run_ids} == {("submit", "pause", "resume")}


def test_a_sweep_stops_where_somebody_turned_it_round_meanwhile(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("one")])

    assert maintenance._pause_run(house.context, run_id, ACTOR) is False
    pause_all(house.context, ACTOR)
    assert maintenance._resume_run(house.context, run_id, ACTOR) is False

    assert _scope(house, run_id) == "maintenance"


def test_a_run_whose_transaction_is_ended_for_anothers_sake_is_tried_again(house: Runtime) -> None:
    run_id, tries = submitted(house.context, [noop_step("one")]), []

    def conflicts_twice(context: Any, run_id: RunId, actor: str) -> bool:
        tries.append(actor)
        if len(tries) < 3:
            raise ConflictingWrite("deadlock detected")
        return True

    assert maintenance._surely(conflicts_twice, house.context, run_id, ACTOR)
    assert len(tries) == 3


def test_two_that_pause_and_resume_everything_at_once_leave_all_or_nothing_paused(house: Runtime) -> None:
    run_ids = [submitted(house.context, [noop_step("one")]) for _ in range(6)]
    for _ in range(4):
        begun = threading.Barrier(2)

        def play(verb: Any, begun: threading.Barrier = begun) -> None:
            begun.wait()
            verb(house.context, ACTOR)

        with ThreadPoolExecutor(2) as pool:
            for played in [pool.submit(play, verb) for verb in (pause_all, resume_all)]:
                played.result()
        with house.context.database.transaction() as tx:
            stands = installations.read_maintenance(tx) is not None
        # Whoever lost the race may have been turned round on its way; the winner's word is what calling again ends at.
        (pause_all if stands else resume_all)(house.context, ACTOR)
        assert {_scope(house, run_id) for run_id in run_ids} == {"maintenance" if stands else None}
    for run_id in run_ids:
        assert verify_run(house.context, run_id).findings == ()


def test_the_lists_of_runs_tell_the_paused_from_the_exhausted(house: Runtime) -> None:
    paused, over, both, going = (submitted(house.context, [noop_step("one")]) for _ in range(4))
    for run_id in (over, both):
        _exhaust(house, run_id)
    for run_id in (paused, both):
        pause(house.context, run_id, ACTOR)

    with house.context.database.transaction() as tx:
        found = {
            state: {each.id for each in views.list_runs(tx, views.RunFilter(state=state), 9)}
            for state in (views.ShownRunState.PAUSED, views.ShownRunState.EXHAUSTED, views.ShownRunState.RUNNING)
        }
    assert found == {"paused": {paused, both}, "exhausted": {over}, "running": {going}}
