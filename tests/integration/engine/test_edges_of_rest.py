"""Rests and answers where things go wrong at the same time: nothing rests over what nobody needs, no answer is lost."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import text

from agentflow.content.store import Address
from agentflow.domain.budget import BudgetKind, Exhaustion
from agentflow.domain.error import ServersUnreachable
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.outcome import Failed, Released
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.state import ShownRunState
from agentflow.engine import execute as executing
from agentflow.engine.admit import exhausted
from agentflow.engine.cancel import cancel_step
from agentflow.engine.claim import Claimed, claim
from agentflow.engine.execute import Doorbell, execute
from agentflow.engine.resume import resume_renewed
from agentflow.engine.settle import Settled, Settlement, settle
from agentflow.executors.base import Assignment, CallRecord, Estimate, Lifeline, Performance
from agentflow.executors.command import Ended
from agentflow.runtime import Runtime
from agentflow.storage import views
from tests.factories import noop_step, step_rows, submitted

SHORT = Exhaustion(BudgetKind.STEPS, "project:default", 1, 1, 0, 1)


def _claimed(house: Runtime, run_id: RunId, key: str) -> Claimed:
    claimed = claim(house.context, run_id, StepKey(key), "test:0")
    assert isinstance(claimed, Claimed)
    return claimed


def _settled(house: Runtime, claimed: Claimed, outcome: Any) -> Settled:
    settlement = Settlement(claimed.run_id, claimed.step_id, claimed.plan, outcome, "test:0", is_sink=claimed.is_sink)
    settled = settle(house.context, settlement, claimed.claim_token)
    assert isinstance(settled, Settled)
    return settled


def _state(house: Runtime, run_id: RunId) -> ShownRunState:
    with house.context.database.transaction() as tx:
        return views.read_summary(tx, run_id).state


def test_a_run_that_fails_while_it_rests_rests_no_more(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("one"), noop_step("two")])
    one, two = _claimed(house, run_id, "one"), _claimed(house, run_id, "two")
    _settled(house, one, exhausted([SHORT]))
    assert _state(house, run_id) is ShownRunState.EXHAUSTED

    _settled(house, two, Failed(Reason(ReasonCode.EXIT_CODE, {"exit_code": 1}), exit_code=1, is_permanent=True))

    assert _state(house, run_id) is ShownRunState.FAILED


def test_a_step_that_is_cancelled_leaves_no_budget_to_rest_over(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("one"), noop_step("two")])
    one = _claimed(house, run_id, "one")
    cancel_step(house.context, one.step_id, "tester@test")

    _settled(house, one, exhausted([SHORT]))

    assert _state(house, run_id) is ShownRunState.RUNNING
    assert step_rows(house.context, run_id)["one"].state == "cancelled"


@pytest.mark.parametrize(
    ("others", "state"),
    [([], ShownRunState.RUNNING), ([{"budget": "tokens", "scope": "project:default"}], ShownRunState.EXHAUSTED)],
    ids=["only the day's", "another beside it"],
)
def test_a_new_day_lifts_only_what_is_renewed(house: Runtime, others: list[Any], state: ShownRunState) -> None:
    run_id = submitted(house.context, [noop_step("one")])
    over = {**SHORT.as_detail(), "resets_at": (datetime.now(UTC) - timedelta(seconds=1)).isoformat()}
    with house.context.database.transaction() as tx:
        values = {"id": run_id, "exhausted": json.dumps([over, *others])}
        rest = "UPDATE run_state SET exhausted = CAST(:exhausted AS jsonb), rests_since = now() WHERE run_id = :id"
        tx.execute(text(rest), values)

    resume_renewed(house.context, run_id, "dispatcher:test")

    assert _state(house, run_id) is state


def test_being_told_to_wait_is_counted_apart_from_being_given_back(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("one")])
    waits = Released(Reason(ReasonCode.CALL_POSTPONED, {"what": "was refused", "seconds": 0}))
    for outcome in (Released(Reason(ReasonCode.BUDGET_UNSETTLED)), waits, Released(Reason(ReasonCode.DRAINED)), waits):
        with house.context.database.transaction() as tx:
            tx.execute(text("UPDATE step SET not_before = now() WHERE run_id = :id"), {"id": run_id})
        _settled(house, _claimed(house, run_id, "one"), outcome)

    assert step_rows(house.context, run_id)["one"].postponed == 2


def test_only_returns_in_a_row_put_a_step_off(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("one")])
    paused, drained = Released(Reason(ReasonCode.PAUSED)), Released(Reason(ReasonCode.DRAINED))
    delays = []
    for outcome in (drained, drained, paused, drained, drained, drained, drained, paused, drained):
        delays.append(_settled(house, _claimed(house, run_id, "one"), outcome).then.delay_seconds)
        with house.context.database.transaction() as tx:
            tx.execute(text("UPDATE step SET not_before = now() WHERE run_id = :id"), {"id": run_id})

    assert [bool(delay) for delay in delays] == [False] * 6 + [True, False, False]


class _Answering:
    """An executor that answers every call with a file, as that of models does."""

    action, queue = "llm", "models"

    def estimate(self, assignment: Assignment) -> Estimate:
        return Estimate()

    def perform(self, assignment: Assignment, lifeline: Lifeline) -> Performance:
        answer = assignment.scratch / "text"
        answer.write_text("said")
        return Performance(Ended.EXITED, call=CallRecord("stub", "m", was_sent=True, answer=answer, answer_bytes=4))

    def close(self) -> None:
        """Nothing is kept."""


def test_a_commit_whose_reply_is_lost_does_not_cost_the_answer(house: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """The settle takes place, its reply does not arrive, and the second try is refused by the fence."""
    steps = [
        {"id": "say", "needs": [], "llm": {"model": "stub:m", "prompt": "p"}},
        {"id": "use", "needs": ["say"], "subprocess": {"command": ["cat"], "stdin": "{{ steps.say.text }}"}},
    ]
    run_id = submitted(house.context, steps)
    first = iter([True])

    def losing(*arguments: Any) -> Any:
        settled = settle(*arguments)
        if next(first, False):
            raise ServersUnreachable("the connection broke")
        return settled

    monkeypatch.setattr(executing, "executor_for", lambda _action: _Answering())
    monkeypatch.setattr(executing, "settle", losing)
    monkeypatch.setattr(executing, "RETRY_SETTLE_SECONDS", 0.0)

    execute(house.context, house.lease_keeper, Doorbell(run_id, StepKey("say")), "test:0")

    assert step_rows(house.context, run_id)["say"].state == "succeeded"
    with house.context.store.open(Address(str(run_id), "text", "say", 1)) as answer:
        assert answer.read() == b"said"


def test_the_answer_of_an_attempt_that_others_ended_is_taken_back(
    house: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = [
        {"id": "say", "needs": [], "llm": {"model": "stub:m", "prompt": "p"}},
        {"id": "use", "needs": ["say"], "subprocess": {"command": ["cat"], "stdin": "{{ steps.say.text }}"}},
    ]
    run_id = submitted(house.context, steps)

    class Rescued(_Answering):
        def perform(self, assignment: Assignment, lifeline: Lifeline) -> Performance:
            with house.context.database.transaction() as tx:  # somebody else ends the attempt meanwhile
                tx.execute(
                    text("UPDATE attempt SET state = 'lost', ended_at = now(), claim_token = :t"), {"t": uuid4()}
                )
            return super().perform(assignment, lifeline)

    monkeypatch.setattr(executing, "executor_for", lambda _action: Rescued())

    execute(house.context, house.lease_keeper, Doorbell(run_id, StepKey("say")), "test:0")

    root = house.settings.content_root() / "runs" / str(run_id) / "steps"
    assert [path for path in root.rglob("*") if path.is_file()] == []
