"""Runs that ended long ago go whole, and what has to stay of them stays; whoever is at work is never disturbed."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError

from agentflow.content.shared_directory import SharedDirectory
from agentflow.domain.budget import Amounts, ConfiguredBudgets, ScopeBudget
from agentflow.domain.error import ContentError, NotFound, UsageError
from agentflow.domain.event import GENESIS
from agentflow.domain.ids import INSTALLATION_CHAIN, RunId, StepKey
from agentflow.domain.state import RunState
from agentflow.engine import prune as prune_module
from agentflow.engine.execute import Doorbell, execute
from agentflow.engine.housekeeper import Housekeeper
from agentflow.engine.prune import STATEMENT_RUNS, prune, prune_batch, remove_content, survey
from agentflow.engine.prune_firings import prune_firings
from agentflow.engine.reconcile import verify_ledger
from agentflow.engine.reserve import load_scope
from agentflow.engine.retry import retry
from agentflow.engine.verify import verify_all, verify_installation
from agentflow.runtime import Runtime
from agentflow.storage import balances, events, retention, runs, spending
from tests.factories import command_step, run_state, submitted, work_off
from tests.integration.engine.pruned import DAY, USED, WEEK, age, count, ended_run

OF_RUNS = ("run", "run_state", "step", "edge", "attempt", "llm_call", "artifact", "audit_event")
TOKENS = USED.input_tokens + USED.output_tokens


def _folder(house: Runtime, run_id: RunId) -> Path:
    return house.settings.content_root() / "runs" / str(run_id)


def _recorded(house: Runtime) -> list[Any]:
    with house.context.database.transaction() as tx:
        return [recorded for recorded, _ in events.read_run(tx, INSTALLATION_CHAIN)]


def test_an_old_run_leaves_with_everything_but_its_tombstone_its_usage_and_an_event(house: Runtime) -> None:
    run_id = ended_run(house, key="nightly")
    assert _folder(house, run_id).exists()

    pruned = prune(house.context, WEEK, "tester@test")

    assert [each.run_id for each in pruned.tombstones] == [run_id]
    assert (pruned.tokens, pruned.has_more) == (TOKENS, False)
    assert {table: count(house, table) for table in OF_RUNS} == dict.fromkeys(OF_RUNS, 0) | {"audit_event": 1}
    assert count(house, "plan") == 0
    assert not _folder(house, run_id).exists()
    with house.context.database.transaction() as tx:
        [tombstone] = retention.read_all(tx)
        assert retention.find_left_content(tx, 10) == []
    assert (tombstone.state, tombstone.round, tombstone.event_count) == (RunState.COMPLETED, 1, 6)
    assert (tombstone.pruned_by, len(tombstone.seal), len(tombstone.event_head)) == ("tester@test", 64, 64)
    [recorded] = _recorded(house)
    assert (recorded.action, recorded.subject, recorded.actor) == ("prune", "retention", "tester@test")
    assert recorded.facts["runs"] == 1
    assert [each.is_intact for each in verify_all(house.context)] == []


def test_only_runs_that_ended_long_enough_ago_go(house: Runtime) -> None:
    old, young = ended_run(house, days_ago=8), ended_run(house, days_ago=6)
    open_run = submitted(house.context, [{"id": "a", "noop": {}}])

    assert survey(house.context, WEEK).runs == 1
    pruned = prune(house.context, WEEK, "tester@test")

    assert [each.run_id for each in pruned.tombstones] == [old]
    assert (run_state(house.context, young), run_state(house.context, open_run)) == ("completed", "running")
    assert count(house, "plan") == 2  # that of the pruned run is the young one's too


def test_nothing_old_is_nothing_changed(house: Runtime) -> None:
    ended_run(house, days_ago=1)

    assert prune(house.context, WEEK, "tester@test").tombstones == ()
    assert _recorded(house) == []


def test_less_than_two_days_is_refused(house: Runtime) -> None:
    with pytest.raises(UsageError, match="2 days at least"):
        prune(house.context, 1.9 * DAY, "tester@test")


def test_a_limit_takes_the_oldest_first(house: Runtime) -> None:
    ids = [ended_run(house, days_ago=days) for days in (10, 30, 20)]

    pruned = prune(house.context, WEEK, "tester@test", limit=2)

    assert [each.run_id for each in pruned.tombstones] == [ids[1], ids[2]]
    assert pruned.has_more


def test_after_pruning_an_idempotency_key_is_free(house: Runtime) -> None:
    old = ended_run(house, key="nightly")
    prune(house.context, WEEK, "tester@test")

    assert ended_run(house, days_ago=0, key="nightly") != old


def test_the_used_budget_of_every_scope_is_the_same_before_and_after(house: Runtime) -> None:
    """Also that of a day that is over, in a time zone far from UTC; and the ledger agrees."""
    zone = ConfiguredBudgets(
        timezone="Pacific/Auckland", installation=ScopeBudget(tokens=10**9), project={"*": ScopeBudget(tokens=10**9)}
    )
    run_id = ended_run(house, days_ago=30, directive="nightly")
    ended_run(house, days_ago=0, directive="nightly")
    with house.context.database.transaction() as tx:
        noon = "UPDATE llm_call SET started_at = date_trunc('day', started_at) + interval '12h' WHERE run_id = :run"
        tx.execute(text(noon), {"run": run_id})
        began = tx.execute(text("SELECT min(started_at) FROM llm_call")).scalar_one()
    owners = ("installation", "project:default", "directive:default/nightly")
    now = datetime.now(UTC)
    scopes = [scope for owner in owners for scope in (*zone.pair_of(owner, began), zone.pair_of(owner, now)[1])]

    def used() -> list[Amounts]:
        with house.context.database.transaction() as tx:
            return [spending.snapshot(tx, scope).used for scope in scopes]

    before = used()
    assert before[0] == Amounts(tokens=2 * TOKENS, usd_nano=2 * USED.usd_nano)
    assert before[1] == Amounts(tokens=TOKENS, usd_nano=USED.usd_nano)
    context = replace(house.context, settings=house.settings.model_copy(update={"budgets": zone}))
    assert all(load_scope(context, scope) for scope in scopes if scope.resets_at is None)

    prune(house.context, WEEK, "tester@test")

    assert used() == before
    assert verify_ledger(context) == []
    with house.context.database.transaction() as tx:
        day = zone.day_of(began)
        assert [(each.project, each.directive) for each in balances.find_spenders(tx, *day, 10)] == [
            ("default", "nightly")
        ]


def test_the_ledger_of_a_pruned_run_is_forgotten(house: Runtime) -> None:
    run_id = submitted(house.context, [command_step("a", "true")], budget={"steps": 5})
    execute(house.context, house.lease_keeper, Doorbell(run_id, StepKey("a")), "test:0")
    assert house.context.ledger.read(f"run:{run_id}") is not None
    age(house, run_id, 30)

    prune(house.context, WEEK, "tester@test")

    assert house.context.ledger.read(f"run:{run_id}") is None
    assert verify_ledger(house.context) == []


def test_usage_beyond_all_measure_is_folded_without_harm(house: Runtime) -> None:
    for _ in range(2):
        ended_run(house)
    with house.context.database.transaction() as tx:
        tx.execute(text("UPDATE llm_call SET input_tokens = 9000000000000000000, usd_nano = 9000000000000000000"))

    pruned = prune(house.context, WEEK, "tester@test")

    assert len(pruned.tombstones) == 2
    with house.context.database.transaction() as tx:
        folded = tx.execute(text("SELECT input_tokens, usd_nano, calls FROM folded_usage")).one()
    assert tuple(folded) == (2**53 - 1, 2**53 - 1, 2)


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM audit_event",
        "WITH setting AS MATERIALIZED (SELECT set_config('agentflow.pruning', '*', true)) "
        "DELETE FROM audit_event USING setting",
        "UPDATE audit_event SET actor = 'nobody'",
        "TRUNCATE audit_event",
    ],
)
def test_nobody_else_may_delete_events_before_or_after(house: Runtime, change: str) -> None:
    ended_run(house)
    prune(house.context, WEEK, "tester@test")
    ended_run(house, days_ago=0)

    with pytest.raises(DBAPIError, match="immutable"), house.context.database.transaction() as tx:
        tx.execute(text(change))


def test_the_function_takes_no_run_that_has_not_ended(house: Runtime) -> None:
    run_id = submitted(house.context, [{"id": "a", "noop": {}}])

    with pytest.raises(DBAPIError, match="not ended"), house.context.database.transaction() as tx:
        tx.execute(text("SELECT prune_run(:run, 'me')"), {"run": run_id})


def _note_schedule(house: Runtime) -> UUID:
    schedule = uuid4()
    with house.context.database.transaction() as tx:
        tx.execute(
            text(
                "INSERT INTO schedule (id, project, name, kind, spec, time_zone, jitter_seconds, overlap, max_queued, "
                "catch_up_seconds, plan_name, vars, is_enabled, created_by, version) VALUES "
                "(:id, 'default', :name, 'once', '{}', 'UTC', 0, 'skip', 0, 0, 'p', '{}', true, 'me', 1)"
            ),
            {"id": schedule, "name": f"s-{schedule}"},
        )
    return schedule


def _note_firing(
    house: Runtime, state: str, run_id: RunId | None, *, days_ago: float = 0, schedule: UUID | None = None
) -> None:
    schedule = schedule or _note_schedule(house)
    with house.context.database.transaction() as tx:
        tx.execute(
            text(
                "INSERT INTO firing (schedule_id, due_at, cause, state, run_id, noted_at) "
                "SELECT :id, at, 'scheduled', :state, :run, at "
                "FROM (SELECT now() - make_interval(secs => 86400 * CAST(:days AS float8)) AS at) AS due"
            ),
            {"id": schedule, "state": state, "run": run_id, "days": days_ago},
        )


def test_a_run_of_an_open_firing_stays(house: Runtime) -> None:
    run_id = ended_run(house)
    _note_firing(house, "queued", run_id)

    assert prune(house.context, WEEK, "tester@test").tombstones == ()
    with house.context.database.transaction() as tx:
        tx.execute(text("UPDATE firing SET state = 'started'"))
    assert len(prune(house.context, WEEK, "tester@test").tombstones) == 1


def test_a_run_that_a_firing_waits_for_since_it_was_found_stays(
    house: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = ended_run(house)
    lock = retention.lock

    def fire_first(*given: Any) -> list[RunId]:
        _note_firing(house, "queued", run_id)
        return lock(*given)

    monkeypatch.setattr(retention, "lock", fire_first)
    assert prune_batch(house.context, WEEK, "tester@test").tombstones == ()


def _firings(house: Runtime) -> list[tuple[str, float]]:
    asked = "SELECT state, round(extract(epoch FROM now() - due_at) / 86400) FROM firing ORDER BY due_at"
    with house.context.database.transaction() as tx:
        return [(row[0], float(row[1])) for row in tx.execute(text(asked))]


def test_decided_firings_of_long_ago_go_but_the_newest_of_a_schedule_and_those_with_a_run(house: Runtime) -> None:
    schedule, other = _note_schedule(house), _note_schedule(house)
    open_run = submitted(house.context, [{"id": "a", "noop": {}}])
    for state, run_id, days in (
        ("started", uuid4(), 50),
        ("queued", None, 45),
        ("started", open_run, 40),
        ("skipped", None, 35),
        ("missed", None, 3),
    ):
        _note_firing(house, state, RunId(run_id) if run_id else None, days_ago=days, schedule=schedule)
    _note_firing(house, "refused", None, days_ago=60, schedule=other)

    assert prune(house.context, WEEK, "tester@test").firings == 2
    assert _firings(house) == [("refused", 60), ("queued", 45), ("started", 40), ("missed", 3)]
    [recorded] = _recorded(house)
    assert (recorded.action, recorded.facts["firings"]) == ("prune_firings", 2)
    assert prune(house.context, WEEK, "tester@test").firings == 0
    assert len(_recorded(house)) == 1
    assert verify_installation(house.context).is_intact


def test_firings_go_in_batches_and_with_their_runs(house: Runtime) -> None:
    schedule = _note_schedule(house)
    for days in (50, 40, 30, 1):
        _note_firing(house, "started", ended_run(house, days_ago=days), days_ago=days, schedule=schedule)

    assert prune_firings(house.context, WEEK, "tester@test") == 0
    assert len(prune_batch(house.context, WEEK, "tester@test").tombstones) == 3
    assert [prune_firings(house.context, WEEK, "tester@test", 2) for _ in range(3)] == [2, 1, 0]
    assert _firings(house) == [("started", 1)]


def test_the_housekeeper_prunes_firings(house: Runtime) -> None:
    schedule = _note_schedule(house)
    for days in (30, 20):
        _note_firing(house, "skipped", None, days_ago=days, schedule=schedule)
    Housekeeper(house.context, "dispatcher:test").work()
    assert len(_firings(house)) == 2  # without a retention everything stays

    settings = house.settings.model_copy(update={"retention_days": 7.0})
    Housekeeper(replace(house.context, settings=settings), "dispatcher:test").work()

    assert _firings(house) == [("skipped", 20)]


def _slow_to_go(house: Runtime, run_id: RunId) -> None:
    """Let Postgres end the statement that takes this run out, as it does with one that takes too long."""
    with house.context.database.transaction() as tx:
        tx.execute(
            text(
                "CREATE FUNCTION take_long() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
                f"IF OLD.id = '{run_id}' THEN RAISE EXCEPTION 'too long' USING ERRCODE = 'query_canceled'; END IF; "
                "RETURN OLD; END $$"
            )
        )
        tx.execute(text("CREATE TRIGGER take_long BEFORE DELETE ON run FOR EACH ROW EXECUTE FUNCTION take_long()"))


def test_a_run_too_big_for_a_statement_is_passed_over_and_keeps_no_other(house: Runtime) -> None:
    big, *others = [ended_run(house, days_ago=40 - number) for number in range(STATEMENT_RUNS + 2)]
    _slow_to_go(house, big)

    passed_over: set[RunId] = set()
    batches = [prune_batch(house.context, WEEK, "tester@test", passed_over=passed_over) for _ in range(3)]

    assert [len(each.tombstones) for each in batches] == [STATEMENT_RUNS - 1, 2, 0]
    assert [each.has_more for each in batches] == [True, False, False]
    assert passed_over == {big}
    assert run_state(house.context, big) == "completed"
    assert {each.run_id for batch in batches for each in batch.tombstones} == set(others)
    assert verify_installation(house.context).is_intact
    assert [each.is_intact for each in verify_all(house.context)] == [True]


def _failed_run(house: Runtime) -> RunId:
    run_id = submitted(house.context, [command_step("a", "false")])
    execute(house.context, house.lease_keeper, Doorbell(run_id, StepKey("a")), "test:0")
    age(house, run_id, 30)
    return run_id


def test_a_run_that_somebody_holds_is_left_at_once_and_taken_later(house: Runtime) -> None:
    held, other = ended_run(house, days_ago=40), ended_run(house, days_ago=30)

    with house.context.database.transaction() as tx:
        runs.lock(tx, held, is_shared=True)
        began = time.monotonic()
        assert [each.run_id for each in prune(house.context, WEEK, "tester@test").tombstones] == [other]
        assert time.monotonic() - began < 3  # nobody was waited for

    assert [each.run_id for each in prune(house.context, WEEK, "tester@test").tombstones] == [held]


def test_a_run_that_was_retried_since_it_was_found_stays(house: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """The retry commits between the look for candidates and the lock."""
    run_id = _failed_run(house)
    lock = retention.lock

    def retry_first(*given: Any) -> bool:
        if run_state(house.context, run_id) == "failed":  # once: the batch may be tried again
            retry(house.context, run_id, "other@test")
        return lock(*given)

    monkeypatch.setattr(retention, "lock", retry_first)
    assert prune_batch(house.context, WEEK, "tester@test").tombstones == ()
    assert run_state(house.context, run_id) == "running"
    assert _recorded(house) == []


def test_a_retry_that_comes_too_late_finds_no_run(house: Runtime) -> None:
    """It waits at the run's gate while the pruning has it."""
    run_id = _failed_run(house)
    caught: list[BaseException] = []

    def come_too_late() -> None:
        try:
            retry(house.context, run_id, "other@test")
        except NotFound as error:
            caught.append(error)

    with house.context.database.transaction() as tx:
        assert retention.lock(tx, [run_id], WEEK)
        late = threading.Thread(target=come_too_late)
        late.start()
        _wait_until_locked(house)
        retention.prune(tx, [run_id], "tester@test")
    late.join(10)

    assert len(caught) == 1


def _wait_until_locked(house: Runtime) -> None:
    """Wait until somebody waits for a lock."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with house.context.database.autocommit() as connection:
            asked = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
            if connection.execute(asked).scalar_one():
                return
    raise AssertionError("nobody waited")


def test_many_retries_and_prunings_at_once_agree_about_every_run(house: Runtime) -> None:
    ids = [_failed_run(house) for _ in range(12)]
    retried: set[RunId] = set()
    start = threading.Barrier(3)

    def retry_all() -> None:
        start.wait()
        for run_id in ids:
            try:
                retry(house.context, run_id, "other@test")
            except NotFound:
                continue
            retried.add(run_id)

    def prune_all() -> None:
        start.wait()
        for _ in range(12):
            prune_batch(house.context, WEEK, "tester@test", 1)

    threads = [threading.Thread(target=each) for each in (retry_all, prune_all, prune_all)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)

    with house.context.database.transaction() as tx:
        gone = {each.run_id for each in retention.read_all(tx)}
    assert gone | retried == set(ids)
    assert not gone & retried
    assert all(report.is_intact for report in verify_all(house.context))


def test_a_crash_before_the_commit_takes_nothing(house: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    run_id = ended_run(house)

    def crash(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(retention, "forget_plans", crash)
    with pytest.raises(KeyboardInterrupt):
        prune(house.context, WEEK, "tester@test")

    assert run_state(house.context, run_id) == "completed"
    assert (_folder(house, run_id) / "steps" / "a" / "1" / "kept").read_bytes() == b"what it left"
    assert count(house, "tombstone") == count(house, "folded_usage") == 0
    assert [each.is_intact for each in verify_all(house.context)] == [True]


def test_content_that_a_crash_left_after_the_commit_is_removed_later(house: Runtime) -> None:
    run_id = ended_run(house)
    prune_batch(house.context, WEEK, "tester@test")
    assert _folder(house, run_id).exists()

    assert remove_content(house.context).runs == 1
    assert not _folder(house, run_id).exists()
    assert remove_content(house.context).runs == 0


def test_content_that_cannot_be_removed_is_tried_again(house: Runtime, tmp_path: Path) -> None:
    run_id = ended_run(house)
    prune_batch(house.context, WEEK, "tester@test")
    whole, elsewhere = _folder(house, run_id), tmp_path / "elsewhere"
    whole.rename(elsewhere)
    whole.write_text("no folder")  # what no removal of a folder can remove, also for root

    assert remove_content(house.context).runs == 0
    whole.unlink()
    elsewhere.rename(whole)
    assert remove_content(house.context).runs == 1


def test_what_resists_keeps_no_other_content_from_going(house: Runtime) -> None:
    """Batches of two, and the two that were pruned first cannot be removed."""
    ids = [ended_run(house, days_ago=days) for days in (40, 35, 30, 25, 20)]
    for _ in ids:
        prune_batch(house.context, WEEK, "tester@test", 1)
    for run_id in ids[:2]:
        _folder(house, run_id).rename(house.settings.content_root() / f"{run_id}")
        _folder(house, run_id).write_text("no folder")

    removed = [remove_content(house.context, 2) for _ in range(4)]

    assert [each.runs for each in removed] == [0, 2, 1, 0]
    assert [each.has_more for each in removed] == [False, True, True, False]
    assert [_folder(house, run_id).exists() for run_id in ids] == [True, True, False, False, False]


def test_a_store_that_goes_away_in_the_midst_of_it_is_not_taken_for_an_empty_one(
    house: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = ended_run(house)
    prune_batch(house.context, WEEK, "tester@test")
    root, elsewhere = house.settings.content_root(), house.settings.content_root().parent / "elsewhere"
    check = prune_module.check_registration

    def check_and_unmount(*given: Any) -> None:
        check(*given)
        root.rename(elsewhere)

    monkeypatch.setattr(prune_module, "check_registration", check_and_unmount)
    assert remove_content(house.context).runs == 0
    monkeypatch.undo()
    elsewhere.rename(root)

    assert _folder(house, run_id).exists()
    assert remove_content(house.context).runs == 1
    assert not _folder(house, run_id).exists()


def test_a_folder_of_a_store_that_is_away_is_not_told_to_be_gone(house: Runtime, tmp_path: Path) -> None:
    with pytest.raises(ContentError, match="mounted"):
        SharedDirectory(tmp_path / "nowhere").delete_run(str(uuid4()))


def test_another_store_is_not_taken_for_an_empty_one(house: Runtime, tmp_path: Path) -> None:
    run_id = ended_run(house)
    prune_batch(house.context, WEEK, "tester@test")
    stranger = SharedDirectory(tmp_path / "another")
    stranger.store_id()

    assert remove_content(replace(house.context, store=stranger)).runs == 0
    assert remove_content(house.context).runs == 1
    assert not _folder(house, run_id).exists()


def test_a_run_that_was_restored_after_its_pruning_keeps_no_other(house: Runtime) -> None:
    """Its tombstone stands in its own way, and in nobody else's."""
    restored, other = ended_run(house, days_ago=40), ended_run(house)
    with house.context.database.transaction() as tx:
        tx.execute(
            text(
                "INSERT INTO tombstone (run_id, project, plan_name, plan_fingerprint, state, created_at, ended_at, "
                "round, seal, event_count, event_head, input_tokens, output_tokens, usd_nano, pruned_by) VALUES "
                "(:run, 'p', 'p', 'p', 'failed', now(), now(), 1, '', 0, '', 0, 0, 0, 'me')"
            ),
            {"run": restored},
        )

    assert [each.run_id for each in prune(house.context, WEEK, "tester@test").tombstones] == [other]
    assert run_state(house.context, restored) == "completed"


def test_a_plan_that_is_being_submitted_is_not_taken_away(house: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pruning comes between the plan and the run of a submit, and after it."""
    ended_run(house)
    insert_run = runs.insert_run

    def prune_first(*given: Any) -> Any:
        prune(house.context, WEEK, "tester@test")
        return insert_run(*given)

    monkeypatch.setattr(runs, "insert_run", prune_first)
    again = submitted(house.context, [{"id": "a", "noop": {}}, {"id": "b", "needs": ["a"], "noop": {}}])
    monkeypatch.undo()

    assert count(house, "tombstone") == 1
    assert work_off(house, again) == "completed"
    assert count(house, "plan") == 1


def test_a_plan_that_is_stored_under_a_name_stays(house: Runtime) -> None:
    run_id = ended_run(house)
    with house.context.database.transaction() as tx:
        fingerprint = runs.read_plan_fingerprint(tx, run_id)
        tx.execute(
            text("INSERT INTO stored_plan VALUES ('default', 'p', 1, :fingerprint, 'me')"), {"fingerprint": fingerprint}
        )

    prune(house.context, WEEK, "tester@test")

    assert count(house, "plan") == 1


def _copies(house: Runtime, run_id: RunId, many: int) -> None:
    """Copy an ended run with its rows and events, as often as that; the chains of the copies do not verify."""
    copied = {
        "run": "id",
        "run_state": "run_id",
        "step": "run_id",
        "attempt": "run_id",
        "llm_call": "run_id",
        "audit_event": "run_id",
    }
    ids = {"id", "run_id", "step_id", "attempt_id"}
    with house.context.database.transaction() as tx:
        for table, owner in copied.items():
            named = (
                "SELECT column_name FROM information_schema.columns WHERE table_name = :table ORDER BY ordinal_position"
            )
            names = [
                name
                for name in tx.execute(text(named), {"table": table}).scalars()
                if (table, name) != ("audit_event", "id")
            ]
            values = [
                f"CASE WHEN {name} IS NULL THEN NULL ELSE CAST(md5({name}::text || n) AS uuid) END"
                if name in ids
                else f"{name} - n * interval '1 second'"
                if name == "ended_at"
                else name
                for name in names
            ]
            tx.execute(
                text(
                    f"INSERT INTO {table} ({', '.join(names)}) SELECT {', '.join(values)} "
                    f"FROM {table}, generate_series(1, :many) AS n WHERE {owner} = :run"
                ),
                {"many": many, "run": run_id},
            )
        tx.execute(text("ANALYZE"))


def test_two_thousand_runs_go_in_batches_of_which_none_is_long(house: Runtime) -> None:
    _copies(house, ended_run(house), 1999)
    engine, statements, batches = house.context.database.engine, [], []

    @event.listens_for(engine, "before_cursor_execute")
    def _begin(connection: Any, *_: Any) -> None:
        connection.info["began"] = time.monotonic()

    @event.listens_for(engine, "after_cursor_execute")
    def _end(connection: Any, *_: Any) -> None:
        statements.append(time.monotonic() - connection.info["began"])

    has_more = True
    while has_more:
        began = time.monotonic()
        batch = prune_batch(house.context, WEEK, "tester@test", seconds=0.25)
        has_more = batch.has_more
        batches.append(time.monotonic() - began)

    assert count(house, "tombstone") == 2000
    assert count(house, "run") == count(house, "attempt") == count(house, "llm_call") == 0
    assert count(house, "audit_event") == len(_recorded(house)) >= 20
    with house.context.database.transaction() as tx:
        assert tx.execute(text("SELECT sum(calls) FROM folded_usage")).scalar_one() == 2000
    assert max(statements) < 5
    assert max(batches) < 10  # on a busy machine; a quarter of a second is what it is given


KEYS_WITHOUT_INDEX = """
SELECT conrelid::regclass::text || '.' || attname
FROM pg_constraint JOIN pg_attribute ON attrelid = conrelid AND attnum = conkey[1]
WHERE contype = 'f' AND confrelid::regclass::text IN ('plan', 'run', 'step', 'attempt')
  AND conrelid::regclass::text <> 'stored_plan'
  AND NOT EXISTS (SELECT FROM pg_index WHERE indrelid = conrelid AND indkey[0] = conkey[1] AND indpred IS NULL)
"""


def test_no_row_that_goes_makes_postgres_read_a_whole_table(house: Runtime) -> None:
    """Every key to what is pruned has an index, but for that of the stored plans, of which there are few."""
    with house.context.database.transaction() as tx:
        assert tx.execute(text(KEYS_WITHOUT_INDEX)).scalars().all() == []


def test_a_batch_ends_when_its_time_is_over(house: Runtime) -> None:
    for _ in range(STATEMENT_RUNS + 1):
        ended_run(house)

    batch = prune_batch(house.context, WEEK, "tester@test", seconds=0)

    assert (len(batch.tombstones), batch.has_more) == (STATEMENT_RUNS, True)


def test_the_chain_of_the_installation_begins_at_genesis(house: Runtime) -> None:
    ended_run(house)
    prune(house.context, WEEK, "tester@test")
    with house.context.database.transaction() as tx:
        chain = events.read_own_chain(tx)

    assert chain is not None
    assert chain.head_sequence == 1
    assert chain.head not in (None, GENESIS)
