"""What a provider says that it used may be anything: sums stay what the ledger can count, and nothing is jammed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from sqlalchemy import text

from agentflow.domain.budget import Budget, Scope
from agentflow.domain.call import CallUsage
from agentflow.domain.ids import AttemptId, RunId, StepKey, step_id
from agentflow.runtime import Runtime
from agentflow.storage import spending
from tests.factories import noop_step, submitted

EXACT = 2**53 - 1
HUGE = 9 * 10**18
ENDED_ATTEMPT = """
INSERT INTO attempt (id, run_id, step_id, number, state, claim_token, worker, lease_until, started_at, ended_at,
                     is_stop_requested, reserved)
VALUES (:id, :run, :step, :number, 'succeeded', :token, 'w', now(), now(), now(), false, '{"granted": "g"}')
"""


def _called(house: Runtime, run_id: RunId, count: int) -> list[AttemptId]:
    """Ended attempts of one step whose calls used as much as a row can hold."""
    step, made = step_id(run_id, StepKey("one")), []
    usage = CallUsage(HUGE, HUGE, HUGE, HUGE, HUGE)
    with house.context.database.transaction() as tx:
        for number in range(1, count + 1):
            attempt = AttemptId(uuid4())
            values = {"id": attempt, "run": run_id, "step": step, "number": number, "token": uuid4()}
            tx.execute(text(ENDED_ATTEMPT), values)
            now = datetime.now(UTC)
            call = spending.LlmCall(attempt, step, "default", "nightly", "stub", "m", usage, now, 1.0)
            spending.insert_call(tx, run_id, replace(call, problem=None))
            made.append(attempt)
    return made


@pytest.mark.parametrize(
    "scope",
    [
        Scope("run", Budget(), run_id=RunId(uuid4())),
        Scope("project:default", Budget(), project="default"),
        Scope("directive:default/nightly", Budget(), project="default", directive="nightly"),
        Scope("installation", Budget()),
    ],
    ids=lambda scope: scope.name,
)
def test_a_sum_is_at_most_what_is_counted_exactly(house: Runtime, scope: Scope) -> None:
    run_id = submitted(house.context, [noop_step("one")])
    _called(house, run_id, 3)
    wanted = replace(scope, run_id=run_id) if scope.run_id is not None else scope

    with house.context.database.transaction() as tx:
        used = spending.snapshot(tx, wanted).used

    assert (used.tokens, used.usd_nano) == (EXACT, EXACT)


def test_what_single_attempts_used_and_what_models_used_is_bounded_too(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("one")])
    attempts = _called(house, run_id, 2)

    with house.context.database.transaction() as tx:
        spent = spending.find_spent(tx, attempts)
        [usage] = spending.read_usage(tx, run_id)

    assert {each.amounts.tokens for each in spent.values()} == {EXACT}
    assert (usage.input_tokens, usage.usd_nano) == (EXACT, EXACT)
