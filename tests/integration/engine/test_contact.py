"""A dispatcher counts its contact with Postgres anew after an answer that took too long; no other wait counts."""

from __future__ import annotations

import time

import pytest
from sqlalchemy import text

from agentflow.domain.ids import RunId, StepKey
from agentflow.engine import dispatcher
from agentflow.engine.claim import Claimed, claim
from agentflow.engine.dispatcher import Dispatcher
from agentflow.runtime import Runtime
from tests.factories import attempt_rows, noop_step, submitted, wait_for

LEASE = 1.0


def _leading_for_a_lease(house: Runtime) -> tuple[Dispatcher, RunId]:
    """A dispatcher that may rescue, and a run with an attempt that nobody keeps, whose lease still holds."""
    leading = Dispatcher(house.context, "one:1")
    leading.one_pass()
    until = time.monotonic() + LEASE
    wait_for(lambda: time.monotonic() > until)
    run_id = submitted(house.context, [noop_step("one")])
    assert isinstance(claim(house.context, run_id, StepKey("one"), "gone:1"), Claimed)
    return leading, run_id


@pytest.fixture
def quick_house(house: Runtime, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """Leases of one second, and answers of Postgres that may take half of one."""
    monkeypatch.setattr(dispatcher, "STILL_SECONDS", 0.5)
    return Runtime(house.settings.model_copy(update={"lease_seconds": LEASE}), celery=house.celery)


@pytest.mark.parametrize("is_postgres_slow", [True, False])
def test_leases_are_left_alone_after_an_answer_that_took_too_long(quick_house: Runtime, is_postgres_slow: bool) -> None:
    leading, run_id = _leading_for_a_lease(quick_house)
    if is_postgres_slow:
        with quick_house.context.database.transaction() as tx:
            tx.execute(text("SELECT pg_sleep(1.2)"))
    else:
        until = time.monotonic() + 1.2
        wait_for(lambda: time.monotonic() > until)

    leading.one_pass()

    (attempt,) = attempt_rows(quick_house.context, run_id)
    assert attempt.state == ("running" if is_postgres_slow else "lost")
    wait_for(
        lambda: leading.one_pass() and attempt_rows(quick_house.context, run_id)[0].state == "lost",
        10 if is_postgres_slow else 1,
    )
    quick_house.close()
