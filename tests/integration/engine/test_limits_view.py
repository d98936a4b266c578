"""What ``limits`` shows: rates with their next free moment, places with their holders, and who waits, in order."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event, text

from agentflow.domain.ids import StepKey
from agentflow.domain.limit import PACE
from agentflow.engine.claim import Claimed, claim
from agentflow.runtime import Runtime
from agentflow.storage import limits
from tests.factories import attempt_rows, noop_step, step_rows, submitted

DB: dict[str, Any] = {"concurrency": {"key": "db", "limit": 2}}
API: dict[str, Any] = {"rate_limit": {"key": "api", "limit": "30/m", "burst": 2}}


def _view(house: Runtime) -> limits.LimitsView:
    with house.context.database.transaction() as tx:
        return limits.view(tx)


def test_nothing_is_shown_where_nothing_is_limited(house: Runtime) -> None:
    submitted(house.context, [noop_step("a")])

    assert _view(house) == limits.LimitsView((), ())


def test_a_concurrency_shows_its_places_its_holders_and_its_line(house: Runtime) -> None:
    first = submitted(house.context, [noop_step(f"a{i}", needs=[], **DB) for i in range(3)])
    second = submitted(house.context, [noop_step("b", **DB), noop_step("later", needs=["b"], **DB)])
    for key in ("a1", "a0"):
        claim(house.context, first, StepKey(key), "worker@host:7")

    (shown,) = _view(house).concurrencies

    assert (shown.key, shown.places, shown.waiting) == ("db", 2, 2)
    assert [(each.number, each.run_id, each.step, each.worker) for each in shown.holders] == [
        (1, first, "a1", "worker@host:7"),
        (2, first, "a0", "worker@host:7"),
    ]
    running = {row.id: row for row in attempt_rows(house.context, first)}
    assert {(each.since, each.expires) for each in shown.holders} == {
        (row.started_at, row.lease_until) for row in running.values()
    }
    assert [(each.run_id, each.step) for each in shown.first_waiting] == [(first, "a2"), (second, "b")]
    assert shown.first_waiting[1].at == step_rows(house.context, second)["b"].not_before


def test_a_rate_shows_its_limit_its_next_free_moment_and_its_tickets(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step(f"s{i}", needs=[], **API) for i in range(5)])
    for i in range(4):
        claim(house.context, run_id, StepKey(f"s{i}"), "test:0")

    (shown,) = _view(house).rates

    tickets = {key: row.ticket_at for key, row in step_rows(house.context, run_id).items()}
    assert (shown.key, shown.per_minute, shown.burst, shown.waiting) == ("api", 30.0, 2, 2)
    assert [(each.run_id, each.step, each.at) for each in shown.first_waiting] == [
        (run_id, "s2", tickets["s2"]),
        (run_id, "s3", tickets["s3"]),
    ]
    assert abs(shown.next_free_at - tickets["s3"] - timedelta(seconds=2 / PACE)) < timedelta(milliseconds=1)
    claim(house.context, run_id, StepKey("s4"), "test:0")
    assert step_rows(house.context, run_id)["s4"].ticket_at - shown.next_free_at < timedelta(seconds=1)


def test_a_rate_that_is_free_is_free_now_and_stays_in_sight_for_an_hour(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("a", **API)])
    (waiting,) = _view(house).rates
    assert waiting.waiting == 0
    assert isinstance(claim(house.context, run_id, StepKey("a"), "test:0"), Claimed)
    with house.context.database.transaction() as tx:
        tx.execute(text("UPDATE step SET state = 'succeeded', not_before = NULL"))
        now = tx.execute(text("SELECT now()")).scalar_one()
        tx.execute(text("UPDATE rate SET next_at = now() - interval '59 min'"))

    (shown,) = _view(house).rates
    assert (shown.key, shown.per_minute, shown.burst) == ("api", None, None)
    assert shown.next_free_at >= now

    with house.context.database.transaction() as tx:
        tx.execute(text("UPDATE rate SET next_at = now() - interval '61 min'"))
    assert _view(house).rates == ()


@pytest.mark.parametrize("steps", [1, 40])
def test_the_number_of_statements_does_not_grow_and_the_lists_are_bounded(house: Runtime, steps: int) -> None:
    run_id = submitted(house.context, [noop_step(f"s{i}", needs=[], **DB, **API) for i in range(steps)])
    claim(house.context, run_id, StepKey("s0"), "test:0")
    asked: list[str] = []
    engine = house.context.database.engine
    event.listen(engine, "before_cursor_execute", lambda *arguments: asked.append(arguments[2]))

    (shown,) = _view(house).concurrencies

    assert len(asked) == 4
    assert shown.waiting == steps - 1
    assert len(shown.first_waiting) == min(steps - 1, limits.MOST_SHOWN)


def test_the_json_is_plain_and_holds_no_more_than_the_view(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step(key, needs=[], **DB, **API) for key in ("a", "b", "c", "d")])
    for key in ("a", "b", "c"):
        claim(house.context, run_id, StepKey(key), "test:0")

    written = json.loads(json.dumps(_view(house).as_json()))

    assert written["schema"] == "agentflow.limits/1"
    (rate,), (concurrency,) = written["rates"], written["concurrencies"]
    assert set(rate) == {"key", "per_minute", "burst", "next_free_at", "waiting", "first_waiting"}
    assert set(concurrency["holders"][0]) == {"place", "run", "step", "worker", "since", "expires"}
    assert concurrency["first_waiting"][0]["run"] == str(run_id)
