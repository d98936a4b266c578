"""What Postgres refuses in mid-attempt gives the attempt back; a started step with on_lost hold waits."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from agentflow.domain.ids import StepKey
from agentflow.engine import execute as executing
from agentflow.engine.execute import Doorbell, execute
from agentflow.executors.base import Assignment, Estimate, Lifeline, Performance
from agentflow.runtime import Runtime
from tests.factories import attempt_rows, step_rows, submitted

TOO_LONG = "SELECT set_config('statement_timeout', '1ms', true), pg_sleep(0)"
ENDED = "SELECT pg_terminate_backend(pg_backend_pid())"


class _Refused:
    """An executor in whose work Postgres refuses a statement, before the work or after it."""

    action, queue = "llm", "models"

    def __init__(self, house: Runtime, statement: str, *, is_started: bool) -> None:
        self._house, self._statement, self._is_started = house, statement, is_started

    def estimate(self, assignment: Assignment) -> Estimate:
        if not self._is_started:
            self._be_refused()
        return Estimate()

    def perform(self, assignment: Assignment, lifeline: Lifeline) -> Performance:
        self._be_refused()
        raise AssertionError("Postgres took the statement")

    def _be_refused(self) -> None:
        with self._house.context.database.transaction() as tx:
            tx.execute(text(self._statement))
            tx.execute(text("SELECT pg_sleep(10)"))

    def close(self) -> None:
        """Nothing is kept."""


@pytest.mark.parametrize("statement", [TOO_LONG, ENDED], ids=["conflict", "outage"])
@pytest.mark.parametrize(
    ("is_started", "on_lost", "state"),
    [(False, "hold", "ready"), (True, "hold", "held"), (True, "rerun", "ready")],
    ids=["before its work", "in its work, held", "in its work, rerun"],
)
def test_what_postgres_refuses_fails_no_step(
    house: Runtime, monkeypatch: pytest.MonkeyPatch, statement: str, is_started: bool, on_lost: str, state: str
) -> None:
    step = {"id": "say", "needs": [], "llm": {"model": "stub:m", "prompt": "p"}, "on_lost": on_lost}
    run_id = submitted(house.context, [step])
    refused = _Refused(house, statement, is_started=is_started)
    monkeypatch.setattr(executing, "executor_for", lambda _action: refused)

    execute(house.context, house.lease_keeper, Doorbell(run_id, StepKey("say")), "test:0")

    row = step_rows(house.context, run_id)["say"]
    assert (row.state, row.failures, row.losses) == (state, 0, 0)
    [attempt] = attempt_rows(house.context, run_id)
    assert (attempt.state, attempt.reason["code"]) == ("released", "servers_away")
