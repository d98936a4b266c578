"""Answers go with their run: outside of any transaction, from the store of the installation, and all of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, text

from agentflow.content import Address, SharedDirectory
from agentflow.domain.ids import AttemptId, RunId, StepId, StepKey
from agentflow.domain.outcome import AttemptOutcome, Failed, Released, Succeeded
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.state import RunState
from agentflow.engine.answers import TEXT, forget_answer, keep_answer
from agentflow.engine.cancel import cancel
from agentflow.engine.claim import Claimed, claim
from agentflow.engine.context import EngineContext
from agentflow.engine.dispatcher import Dispatcher
from agentflow.engine.finalize import finalize
from agentflow.engine.rescue import rescue
from agentflow.engine.retry import retry
from agentflow.engine.settle import Settled, Settlement, settle
from agentflow.executors.base import CallRecord
from agentflow.runtime import Runtime
from agentflow.storage import attempts
from tests.factories import command_step, noop_step, run_state, submitted

ACTOR = "tester@test"
SAY, USE = StepKey("say"), StepKey("use")
ANSWER = b"what the model said"
DRAINED = Released(Reason(ReasonCode.DRAINED), was_started=True)
BROKEN = Failed(Reason(ReasonCode.EXIT_CODE, {"exit_code": 1}), exit_code=1, is_permanent=True)


def _saying(*, keep_content: bool = False) -> list[dict[str, Any]]:
    model = {"model": "stub:ok", "prompt": "Say it.", "keep_content": keep_content}
    return [
        {"id": SAY, "needs": [], "llm": model},
        command_step(USE, "cat", needs=[SAY], stdin="{{ steps.say.text }}"),
    ]


def _claimed(context: EngineContext, run_id: RunId, key: StepKey) -> Claimed:
    claimed = claim(context, run_id, key, "test:0")
    assert isinstance(claimed, Claimed)
    return claimed


def _answer_of(run_id: RunId, attempt: int) -> Address:
    return Address(str(run_id), TEXT, SAY, attempt)


def _settle(house: Runtime, claimed: Claimed, outcome: AttemptOutcome, folder: Path) -> None:
    """Settle an attempt as a worker does, with the answer of a call if it is one that succeeded."""
    kept = []
    if claimed.key == SAY and isinstance(outcome, Succeeded):
        kept = keep_answer(
            house.context.store, _answer_of(claimed.run_id, claimed.number), claimed.plan.plan.step(SAY), _call(folder)
        )
    settlement = Settlement(
        claimed.run_id, claimed.step_id, claimed.plan, outcome, ACTOR, is_sink=claimed.is_sink, artifacts=kept
    )
    assert isinstance(settle(house.context, settlement, claimed.claim_token), Settled)


def _call(folder: Path) -> CallRecord:
    answer = folder / "answer"
    answer.write_bytes(ANSWER)
    sha256 = hashlib.sha256(ANSWER).hexdigest()
    return CallRecord("stub", "ok", was_sent=True, answer=answer, answer_sha256=sha256, answer_bytes=len(ANSWER))


def _said(house: Runtime, folder: Path, *, keep_content: bool = False) -> RunId:
    """A run whose model has spoken and whose second step was not started yet."""
    run_id = submitted(house.context, _saying(keep_content=keep_content))
    _settle(house, _claimed(house.context, run_id, SAY), Succeeded(0), folder)
    return run_id


def _answers(house: Runtime, run_id: RunId) -> list[str]:
    """Every file in the folders of the model's attempts."""
    folder = house.settings.content_root() / "runs" / str(run_id) / "steps" / SAY
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


class _WatchedStore(SharedDirectory):
    """The store of a house, with somebody who acts whenever something of it is to be deleted."""

    def __init__(self, house: Runtime, act: Callable[[Address], object]) -> None:
        super().__init__(house.settings.content_root())
        self._act = act

    def delete(self, address: Address) -> None:
        """Delete after the watcher acted."""
        self._act(address)
        super().delete(address)


def test_nobody_waits_for_the_store_while_answers_are_removed(house: Runtime, tmp_path: Path) -> None:
    run_id = _said(house, tmp_path)
    is_free = []

    def look(_: Address) -> None:
        with house.context.database.transaction() as tx:
            gate = text("SELECT pg_try_advisory_xact_lock(hashtextextended(CAST(:id AS text), 0))")
            is_free.append(tx.execute(gate, {"id": run_id}).scalar_one())

    cancel(replace(house.context, store=_WatchedStore(house, look)), run_id, ACTOR)

    assert is_free == [True]
    assert run_state(house.context, run_id) is RunState.CANCELLED
    assert _answers(house, run_id) == []


def test_only_attempts_that_left_something_are_visited(house: Runtime, tmp_path: Path) -> None:
    run_id = submitted(house.context, _saying())
    for _ in range(3):
        _settle(house, _claimed(house.context, run_id, SAY), DRAINED, tmp_path)
    _settle(house, _claimed(house.context, run_id, SAY), Succeeded(0), tmp_path)
    visited: list[Address] = []

    cancel(replace(house.context, store=_WatchedStore(house, visited.append)), run_id, ACTOR)

    assert visited == [_answer_of(run_id, 4)]


def test_a_run_without_answers_is_locked_once_and_not_asked_for_any(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("one")])
    asked: list[str] = []
    event.listen(house.context.database.engine, "before_cursor_execute", lambda *given: asked.append(given[2]))

    cancel(house.context, run_id, ACTOR)

    assert run_state(house.context, run_id) is RunState.CANCELLED
    assert sum("FOR NO KEY UPDATE OF run_state" in each for each in asked) == 2  # the cancel's and the end's
    assert not any("artifact" in each or "installation" in each for each in asked)


@pytest.mark.parametrize("is_store", [True, False], ids=["another store", "no store"])
def test_a_process_without_the_store_leaves_the_end_to_the_dispatcher(
    house: Runtime, tmp_path: Path, *, is_store: bool
) -> None:
    run_id = _said(house, tmp_path)
    elsewhere = SharedDirectory(tmp_path / "elsewhere")
    if is_store:
        elsewhere.store_id()

    cancel(replace(house.context, store=elsewhere), run_id, ACTOR)

    assert run_state(house.context, run_id) is RunState.CANCELLING
    assert _answers(house, run_id) == ["1/text"]
    Dispatcher(house.context, "test").one_pass()
    assert run_state(house.context, run_id) is RunState.CANCELLED
    assert _answers(house, run_id) == []


def test_a_process_without_the_store_ends_a_run_that_leaves_no_answers(house: Runtime, tmp_path: Path) -> None:
    run_id = submitted(house.context, [noop_step("one")])

    cancel(replace(house.context, store=SharedDirectory(tmp_path / "elsewhere")), run_id, ACTOR)

    assert run_state(house.context, run_id) is RunState.CANCELLED


def test_an_answer_of_a_later_round_stays_when_an_end_was_overtaken(house: Runtime, tmp_path: Path) -> None:
    run_id = _said(house, tmp_path)
    use = _claimed(house.context, run_id, USE)
    overtaken: list[Address] = []

    def overtake(address: Address) -> None:
        if overtaken:
            return
        overtaken.append(address)
        assert finalize(house.context, run_id, ACTOR) is RunState.FAILED
        retry(house.context, run_id, ACTOR)
        _settle(house, _claimed(house.context, run_id, SAY), Succeeded(0), tmp_path)

    slow = Runtime(house.settings, celery=house.celery)
    slow_house = replace(slow.context, store=_WatchedStore(house, overtake))
    settlement = Settlement(run_id, use.step_id, use.plan, BROKEN, ACTOR, is_sink=True)
    settle(slow_house, settlement, use.claim_token)
    slow.close()

    assert overtaken == [_answer_of(run_id, 1)]
    assert run_state(house.context, run_id) is RunState.RUNNING
    assert _answers(house, run_id) == ["2/text"]


def test_of_a_kept_answer_only_those_of_lost_attempts_go_with_the_run(house: Runtime, tmp_path: Path) -> None:
    run_id = submitted(house.context, _saying(keep_content=True))
    lost = _claimed(house.context, run_id, SAY)
    keep_answer(house.context.store, _answer_of(run_id, lost.number), lost.plan.plan.step(SAY), _call(tmp_path))
    with house.context.database.transaction() as tx:  # as if its lease and its kill grace were over
        tx.execute(text("UPDATE attempt SET lease_until = now() - interval '1 minute'"))
    rescue(house.context, attempts.LapsedAttempt(run_id, StepId(lost.step_id), AttemptId(lost.attempt_id)), ACTOR)
    with house.context.database.transaction() as tx:
        tx.execute(text("UPDATE attempt SET ended_at = ended_at - interval '1 minute'"))
        tx.execute(text("UPDATE step SET not_before = now() WHERE state = 'retrying'"))
    _settle(house, _claimed(house.context, run_id, SAY), Succeeded(0), tmp_path)
    assert _answers(house, run_id) == ["1/text", "2/text"]

    cancel(house.context, run_id, ACTOR)

    assert run_state(house.context, run_id) is RunState.CANCELLED
    assert _answers(house, run_id) == ["2/text"]


@pytest.mark.parametrize("keep_content", [True, False])
def test_a_worker_takes_back_the_answer_of_an_attempt_that_others_ended(
    house: Runtime, tmp_path: Path, *, keep_content: bool
) -> None:
    run_id = submitted(house.context, _saying(keep_content=keep_content))
    step = _claimed(house.context, run_id, SAY).plan.plan.step(SAY)
    keep_answer(house.context.store, _answer_of(run_id, 1), step, _call(tmp_path))
    assert _answers(house, run_id) == ["1/text"]

    forget_answer(house.context.store, _answer_of(run_id, 1), step)

    assert _answers(house, run_id) == []
