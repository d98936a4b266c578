"""A schedule that is replaced stays the same one; what waits for its old times is skipped, what was asked for not."""

from __future__ import annotations

from datetime import timedelta

import pytest

from agentflow.domain.error import UsageError
from agentflow.engine.context import EngineContext
from agentflow.engine.create_schedule import create_schedule, examine_schedule
from agentflow.engine.fire import note_due, take_up
from agentflow.engine.replace_schedule import Replaced, replace_schedule
from agentflow.engine.run_schedule import run_schedule
from agentflow.runtime import Runtime
from agentflow.storage import events, schedules
from agentflow.storage.schedules import Schedule
from tests.schedules import WAITING, firing_rows, pushed, request_of, schedule_row, scheduled, set_due, states_of

HOUR = timedelta(hours=1)


@pytest.fixture
def context(house: Runtime) -> EngineContext:
    """The engine of an installation with a plan whose runs rest."""
    pushed(house.context, [WAITING])
    return house.context


def replaced(context: EngineContext, **fields: object) -> Replaced:
    """Put a schedule in the place of "nightly"."""
    request = request_of("nightly", **fields)
    return replace_schedule(context, request, examine_schedule(context, request))


def standing(context: EngineContext) -> Schedule:
    """The schedule as it stands."""
    with context.database.transaction() as tx:
        found = schedules.lock(tx, "default", "nightly")
    assert found is not None
    return found


def told(context: EngineContext) -> list[tuple[str, object]]:
    """What the audit says of schedules: the actions, and what each changed."""
    with context.database.transaction() as tx:
        chain = events.read_own_chain(tx)
    assert chain is not None
    recorded = [event for event, _ in chain.recorded if event.subject == "schedule:default/nightly"]
    return [(event.action, event.facts.get("changed")) for event in recorded]


def test_it_stays_the_same_schedule(context: EngineContext) -> None:
    old = scheduled(context, cron="0 6 * * *", vars={})
    set_due(context, old)
    note_due(context, old.id)
    take_up(context, old.id, 1)

    done = replaced(context, cron="30 7 * * *", overlap="queue", queue_depth=3, budget={"tokens": 100})
    new = standing(context)

    assert done == Replaced(is_new=False, changed=("timing", "overlap", "queue_depth", "budget"))
    assert (new.id, new.created_by, new.pace.schedule_id) == (old.id, old.created_by, old.id)
    assert new.next_at == new.timing.next_after(new.at)
    assert schedule_row(context, new).fire_at == new.pace.fire_at(new.next_at)
    assert states_of(context, new) == ["started"]
    assert told(context) == [("create_schedule", None), ("replace_schedule", [*done.changed])]


def test_what_is_asked_for_again_changes_nothing(context: EngineContext) -> None:
    """Whoever keeps schedules in a file says the same each time: an interval does not begin anew for that."""
    fields = {"every": "1h", "jitter": "5m", "vars": {}, "budget": {"usd": 0.5}, "plan_version": 1}
    old = scheduled(context, **fields)
    due = set_due(context, old, HOUR / 2)
    before = schedule_row(context, old)

    assert replaced(context, **fields) == Replaced(is_new=False)
    assert schedule_row(context, old) == before
    assert replaced(context, **fields, start="2026-01-01T00:00").changed == ("timing",)
    assert standing(context).next_at != due
    assert [action for action, _ in told(context)] == ["create_schedule", "replace_schedule"]


def test_a_due_time_that_nobody_noted_yet_is_kept_where_the_times_stay(context: EngineContext) -> None:
    old = scheduled(context)
    due = set_due(context, old)

    assert replaced(context, jitter="1m", catch_up="1h").changed == ("jitter_seconds", "catch_up_seconds")

    new = standing(context)
    assert new.next_at == due
    assert schedule_row(context, new).fire_at == new.pace.fire_at(due)


def waiting(context: EngineContext) -> Schedule:
    """A schedule with a run that rests, one firing that waits and one that a person asked for."""
    schedule = scheduled(context, overlap="queue", queue_depth=5)
    for _ in range(2):
        set_due(context, schedule)
        note_due(context, schedule.id)
        take_up(context, schedule.id, 1)
    run_schedule(context, "default", "nightly", "tester@test")
    assert states_of(context, schedule) == ["started", "queued", "queued"]
    return schedule


@pytest.mark.parametrize(
    ("fields", "states"),
    [
        ({"every": "2h"}, ["started", "skipped", "queued"]),
        ({"every": "1h", "catch_up": "1h"}, ["started", "queued", "queued"]),
        ({"every": "1h", "is_enabled": False}, ["started", "skipped", "skipped"]),
    ],
    ids=["other times", "the same times", "stopped"],
)
def test_what_waits(context: EngineContext, fields: dict[str, object], states: list[str]) -> None:
    schedule = waiting(context)

    done = replaced(context, overlap="queue", queue_depth=5, **fields)

    assert states_of(context, schedule) == states
    assert done.skipped == states.count("skipped")
    skipped = [row.reason for row in firing_rows(context, schedule) if row.state == "skipped"]
    assert skipped == [{"code": "replaced", "detail": {"actor": "tester@test"}}] * done.skipped


def test_one_that_was_stopped_goes_on_from_now(context: EngineContext) -> None:
    old = scheduled(context, is_enabled=False)
    set_due(context, old, HOUR / 2)

    assert replaced(context).changed == ("is_enabled",)
    assert standing(context).next_at == standing(context).timing.next_after(standing(context).at)


def test_where_there_is_none_it_is_a_new_one(context: EngineContext) -> None:
    assert replaced(context) == Replaced(is_new=True)
    assert told(context) == [("create_schedule", None)]
    with pytest.raises(UsageError, match="replace it"):
        create_schedule(context, examine_schedule(context, request_of("nightly")), "tester@test")
