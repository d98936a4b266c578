"""A person changes what has not run: how long it may take, and when it has its turn."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import text

from agentflow.domain.budget import Budget
from agentflow.domain.error import InvalidTransition, NotFound, UsageError
from agentflow.domain.ids import RunId, StepKey
from agentflow.engine.claim import Claimed, claim
from agentflow.engine.modify import Changes, Modified, modify
from agentflow.engine.verify import verify_run
from agentflow.runtime import Runtime
from agentflow.storage import runs, steps
from tests.factories import attempt_rows, noop_step, shell_step, submitted, work_off

WHY = "the night is short"


def _modify(house: Runtime, run_id: RunId, step: str | None = None, **changes: Any) -> Modified:
    key = None if step is None else StepKey(step)
    return modify(house.context, run_id, key, Changes(**changes), actor="ana", why=WHY)


def _facts(house: Runtime, run_id: RunId) -> list[Any]:
    with house.context.database.transaction() as tx:
        found = text("SELECT facts FROM audit_event WHERE run_id = :id AND action = 'modify' ORDER BY id")
        return list(tx.execute(found, {"id": run_id}).scalars())


def _unsent(house: Runtime, steps_of_run: list[dict[str, Any]], **fields: Any) -> RunId:
    """A run whose doorbells were all lost, as if there had been too many to send."""
    run_id = submitted(house.context, steps_of_run, **fields)
    with house.context.database.transaction() as tx:
        tx.execute(text("UPDATE step SET sent_at = NULL WHERE run_id = :id"), {"id": run_id})
    return run_id


def _due(house: Runtime, queue: str, room: int) -> list[tuple[RunId, str]]:
    with house.context.database.transaction() as tx:
        return [(step.run_id, step.key) for step in steps.stamp_due(tx, queue, room)]


def test_a_shorter_timeout_ends_the_next_attempt(house: Runtime) -> None:
    run_id = submitted(house.context, [shell_step("slow", "sleep 30", retry=1, timeout="10m")])

    modified = _modify(house, run_id, "slow", timeout_seconds=0.3)
    work_off(house, run_id)

    assert modified.changes == {"timeout_seconds": (600.0, 0.3)}
    [attempt] = attempt_rows(house.context, run_id)
    assert attempt.state == "timed_out"
    assert attempt.reason["detail"] == {"timeout_seconds": 0.3}
    assert _facts(house, run_id) == [{"why": WHY, "timeout_seconds": [600.0, 0.3]}]
    assert verify_run(house.context, run_id).is_intact


def test_a_step_of_a_higher_priority_goes_before_others_of_its_run(house: Runtime) -> None:
    run_id = _unsent(house, [noop_step(key) for key in ("a", "b", "c")])

    _modify(house, run_id, "c", priority=5)

    assert [key for _, key in _due(house, "control", 2)] == ["c", "a"]


def test_a_run_of_a_higher_priority_has_more_steps_to_a_turn_and_no_other_starves(house: Runtime) -> None:
    low = _unsent(house, [noop_step(f"l{n}") for n in range(6)])
    high = _unsent(house, [noop_step(f"h{n}") for n in range(6)])

    _modify(house, high, priority=2)

    sent = [run_id for run_id, _ in _due(house, "control", 8)]
    assert (sent.count(high), sent.count(low)) == (6, 2)
    assert low in sent[:2]


def test_priority_counts_as_minutes_in_the_line_before_a_concurrency_key(house: Runtime) -> None:
    limited = {"concurrency": {"key": "db", "limit": 1}}
    first = _unsent(house, [noop_step("old", **limited)])
    second = _unsent(house, [noop_step("young", **limited)])

    _modify(house, second, "young", priority=1)

    with house.context.database.transaction() as tx:
        assert [step.run_id for step in steps.stamp_line(tx, ["control"], 5)] == [second]
        tx.execute(text("UPDATE step SET sent_at = NULL, not_before = now() - interval '2 minutes' WHERE key = 'old'"))
        tx.execute(text("UPDATE step SET sent_at = NULL"))
        assert [step.run_id for step in steps.stamp_line(tx, ["control"], 5)] == [first]


def test_a_budget_and_a_priority_are_changed_with_one_event(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("a")], budget={"steps": 5})

    modified = _modify(house, run_id, more=Budget(steps=3), priority=4)

    assert modified.changes == {"steps": (5, 8), "priority": (0, 4)}
    assert _facts(house, run_id) == [{"why": WHY, "steps": [5, 8], "priority": [0, 4]}]
    with house.context.database.transaction() as tx:
        assert runs.read_budget(tx, run_id).steps == 8


def test_what_is_as_wanted_already_leaves_no_event(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("a")])

    assert _modify(house, run_id, "a", priority=0).changes == {}
    assert _facts(house, run_id) == []


@pytest.mark.parametrize(
    ("step", "changes", "error", "words"),
    [
        (None, {}, UsageError, "what to change"),
        (None, {"timeout_seconds": 5.0}, UsageError, "name the step"),
        ("a", {"more": Budget(steps=1)}, UsageError, "the run's"),
        (None, {"more": Budget(steps=1)}, UsageError, "no budget of steps"),
        ("a", {"priority": 10}, UsageError, "0 to 9"),
        ("pause", {"priority": 1}, UsageError, "No worker"),
        ("b", {"priority": 1}, NotFound, "no step 'b'"),
        ("runs", {"priority": 1}, InvalidTransition, "running"),
    ],
)
def test_what_cannot_be_changed_is_said(
    house: Runtime, step: str | None, changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    run_id = submitted(
        house.context, [noop_step("a"), noop_step("runs"), {"id": "pause", "needs": [], "wait": {"for": "1h"}}]
    )
    assert isinstance(claim(house.context, run_id, StepKey("runs"), "test:0"), Claimed)

    with pytest.raises(error, match=words):
        _modify(house, run_id, step, **changes)
    assert _facts(house, run_id) == []


def test_an_ended_run_is_not_changed(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("a")])
    work_off(house, run_id)

    with pytest.raises(InvalidTransition, match="has ended"):
        _modify(house, run_id, priority=1)
