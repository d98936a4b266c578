"""A run that rests because a budget of it is exhausted: nothing of it is claimed or sent until it goes on."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import text

from agentflow.domain.budget import Budget
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.outcome import ClaimRefusal
from agentflow.engine.claim import Claimed, claim
from agentflow.engine.dispatcher import Dispatcher
from agentflow.runtime import Runtime
from agentflow.storage import steps
from tests.factories import attempt_rows, noop_step, step_rows, submitted

EXHAUST = """UPDATE run_state SET exhausted = '[{"budget": "tokens"}]', rests_since = now() WHERE run_id = :id"""
RESUME = """UPDATE run_state SET exhausted = NULL, rests_since = NULL WHERE run_id = :id"""


def _execute(house: Runtime, statement: str, run_id: RunId, **parameters: Any) -> None:
    with house.context.database.transaction() as tx:
        tx.execute(text(statement), {"id": run_id, **parameters})


def test_a_step_of_a_resting_run_is_not_claimed_and_its_doorbell_is_forgotten(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("one")])
    _execute(house, EXHAUST, run_id)

    assert claim(house.context, run_id, StepKey("one"), "test:0") is ClaimRefusal.RUN_RESTS

    step = step_rows(house.context, run_id)["one"]
    assert (step.state, step.attempts, step.sent_at) == ("ready", 0, None)
    assert attempt_rows(house.context, run_id) == []


def test_a_resting_run_is_sent_nothing_until_it_goes_on(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("one")])
    _execute(house, EXHAUST, run_id)
    claim(house.context, run_id, StepKey("one"), "test:0")
    dispatcher = Dispatcher(house.context, "one:1")

    dispatcher.one_pass()
    with house.context.database.transaction() as tx:
        assert steps.find_due(tx) == steps.Due(is_due=False, has_line=False, seconds=None)
    assert step_rows(house.context, run_id)["one"].sent_at is None

    _execute(house, RESUME, run_id)
    dispatcher.one_pass()
    assert step_rows(house.context, run_id)["one"].sent_at is not None
    assert isinstance(claim(house.context, run_id, StepKey("one"), "test:0"), Claimed)


def test_a_claim_tells_the_caps_of_the_run_and_how_long_it_was_going(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("one"), noop_step("two", needs=[])])
    uncapped = claim(house.context, run_id, StepKey("one"), "test:0")
    assert isinstance(uncapped, Claimed)
    assert uncapped.budget == Budget()

    _execute(house, "INSERT INTO run_budget (run_id, tokens, active_seconds) VALUES (:id, 1100, 60)", run_id)
    _execute(house, "UPDATE run SET directive = 'careful' WHERE id = :id", run_id)
    going = "UPDATE run_state SET started_at = now() - interval '100 s', rested_seconds = 40 WHERE run_id = :id"
    _execute(house, going, run_id)
    claimed = claim(house.context, run_id, StepKey("two"), "test:0")

    assert isinstance(claimed, Claimed)
    assert (claimed.budget, claimed.directive) == (Budget(tokens=1100, active_seconds=60), "careful")
    assert 60 <= claimed.active_seconds_used < 75
    assert claimed.started_at == attempt_rows(house.context, run_id, "two")[0].started_at
    assert claimed.started_at - uncapped.started_at < timedelta(seconds=30)
