"""One idempotency key stands for one submission, whoever comes at the same time; a conflict writes nothing."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from agentflow.content.shared_directory import SharedDirectory
from agentflow.domain.budget import Budget, ConfiguredBudgets
from agentflow.domain.error import IdempotencyConflict, PlanRejected, StoreMismatch
from agentflow.domain.ids import RunId
from agentflow.domain.state import RunState
from agentflow.engine.context import EngineContext
from agentflow.engine.submit import SubmitRequest, submit
from agentflow.engine.verify import verify_run
from agentflow.runtime import Runtime
from agentflow.settings import Settings
from tests.factories import command_step, noop_step, planned, run_state, work_off

TABLES = ("plan", "run", "run_state", "step", "edge", "attempt", "artifact", "audit_event")
ROUNDS = 5


def _request(steps: Sequence[dict[str, Any]], key: str | None, **more: Any) -> SubmitRequest:
    plan, content = planned(steps)
    return SubmitRequest(
        **{
            "plan": plan,
            "vars": {},
            "project": "default",
            "actor": "tester@test",
            "content": content,
            "files": {},
            "idempotency_key": key,
            **more,
        }
    )


def _rows(house: Runtime) -> dict[str, int]:
    with house.context.database.transaction() as tx:
        return {table: tx.execute(text(f"SELECT count(*) FROM {table}")).scalar_one() for table in TABLES}


def _submit_many(settings: Settings, starting: Any, answers: Any, step: str) -> None:
    """What each of two processes does: submit its plan under each key, at the same moment as the other."""
    house = Runtime(settings)
    for number in range(ROUNDS):
        starting.wait(60)
        try:
            submitted = submit(house.context, _request([noop_step(step)], f"key-{number}"))
            answers.put((number, str(submitted.run_id), submitted.is_existing))
        except IdempotencyConflict:
            answers.put((number, "conflict", True))
    house.close()


def _race(house: Runtime, one: str, other: str) -> list[list[tuple[str, bool]]]:
    """Let two processes submit under the same keys; returns their answers by key."""
    processes = multiprocessing.get_context("spawn")
    starting, answers = processes.Barrier(2), processes.Queue()
    both = [
        processes.Process(target=_submit_many, args=(house.settings, starting, answers, step)) for step in (one, other)
    ]
    for process in both:
        process.start()
    collected = [answers.get(timeout=60) for _ in range(2 * ROUNDS)]
    for process in both:
        process.join(60)
    return [[(run_id, existing) for n, run_id, existing in collected if n == number] for number in range(ROUNDS)]


def test_one_plan_submitted_by_two_processes_under_one_key_is_one_run(house: Runtime) -> None:
    for answers in _race(house, "same", "same"):
        assert len({run_id for run_id, _ in answers}) == 1
        assert sorted(existing for _, existing in answers) == [False, True]
    rows = _rows(house)
    assert (rows["plan"], rows["run"], rows["step"], rows["audit_event"]) == (1, ROUNDS, ROUNDS, ROUNDS)


def test_of_two_plans_submitted_under_one_key_one_conflicts_and_leaves_no_row(house: Runtime) -> None:
    for answers in _race(house, "one", "other"):
        assert sum(run_id == "conflict" for run_id, _ in answers) == 1
    with house.context.database.transaction() as tx:
        orphans = tx.execute(
            text("SELECT count(*) FROM plan WHERE fingerprint NOT IN (SELECT plan_fingerprint FROM run)")
        ).scalar_one()
    assert orphans == 0
    assert _rows(house)["run"] == ROUNDS


def test_another_submission_under_a_key_is_a_conflict_that_names_both_and_writes_nothing(house: Runtime) -> None:
    first = _request([noop_step("one")], "key")
    other = _request([noop_step("two")], "key")
    submit(house.context, first)
    before = _rows(house)

    with pytest.raises(IdempotencyConflict) as conflict:
        submit(house.context, other)

    assert (conflict.value.stored, conflict.value.submitted) == (first.plan.fingerprint, other.plan.fingerprint)
    assert _rows(house) == before


def test_other_vars_are_another_submission_and_another_project_has_keys_of_its_own(house: Runtime) -> None:
    first = _request([noop_step("one")], "key", vars={"region": "eu"})
    run_id = submit(house.context, first).run_id

    with pytest.raises(IdempotencyConflict):
        submit(house.context, replace(first, vars={"region": "us"}))
    assert submit(house.context, replace(first, actor="other@test")).run_id == run_id
    assert not submit(house.context, replace(first, project="elsewhere")).is_existing


def test_a_budget_and_a_directive_given_at_submit_are_part_of_the_submission(house: Runtime) -> None:
    plain = _request([noop_step("one")], "plain")
    first = replace(plain, idempotency_key="key", budget=Budget(tokens=5000), directive="nightly")
    run_id = submit(house.context, first).run_id

    assert submit(house.context, replace(first, budget=Budget(tokens=5000))).run_id == run_id
    for other in (
        replace(first, budget=Budget(tokens=5001)),
        replace(first, budget=None),
        replace(first, directive="daily"),
        replace(first, directive=None),
    ):
        with pytest.raises(IdempotencyConflict):
            submit(house.context, other)


def test_a_submission_without_budget_and_directive_is_the_one_that_it_was_before_there_were_any() -> None:
    request = _request([noop_step("one")], "key", vars={"region": "eu"})
    shared = json.dumps([request.plan.fingerprint, {"region": "eu"}], sort_keys=True, separators=(",", ":"))

    assert request.sha256 == hashlib.sha256(shared.encode()).hexdigest()


UNBOUNDED = {"id": "ask", "needs": [], "llm": {"model": "nobody:knows", "prompt": "a prompt of sorts"}}


def _with_budgets(house: Runtime, configured: dict[str, Any]) -> EngineContext:
    budgets = ConfiguredBudgets.model_validate(configured)
    return replace(house.context, settings=house.settings.model_copy(update={"budgets": budgets}))


def _budget_row(house: Runtime, run_id: RunId) -> Any:
    with house.context.database.transaction() as tx:
        return tx.execute(
            text("SELECT steps, tokens, usd_nano, active_seconds FROM run_budget WHERE run_id = :id"), {"id": run_id}
        ).one_or_none()


def test_a_given_budget_goes_over_the_plans_kind_by_kind_and_a_given_directive_over_its(house: Runtime) -> None:
    plan, _ = planned([noop_step("one")], budget={"tokens": 10, "usd": 0.5, "active_time": "1m"}, directive="daily")
    request = replace(_request([noop_step("one")], None), plan=plan)
    as_planned = submit(house.context, request).run_id
    given = submit(
        house.context, replace(request, budget=Budget(steps=3, tokens=20), directive="nightly", project="ops")
    ).run_id

    assert tuple(_budget_row(house, as_planned)) == (None, 10, 500_000_000, 60)
    assert tuple(_budget_row(house, given)) == (3, 20, 500_000_000, 60)
    with house.context.database.transaction() as tx:
        owners = tx.execute(text("SELECT id, project, directive FROM run")).all()
        facts = tx.execute(
            text("SELECT facts FROM audit_event WHERE run_id = :id AND action = 'submit'"), {"id": given}
        ).scalar_one()
    assert {row.id: (row.project, row.directive) for row in owners} == {
        as_planned: ("default", "daily"),
        given: ("ops", "nightly"),
    }
    assert (facts["directive"], facts["budget"]["tokens"]) == ("nightly", 20)
    assert verify_run(house.context, given).findings == ()


def test_a_run_without_caps_has_no_row_of_a_budget(house: Runtime) -> None:
    run_id = submit(house.context, _request([noop_step("one")], None)).run_id

    assert _budget_row(house, run_id) is None


def test_a_call_whose_cost_has_no_bound_is_refused_before_anything_is_written(house: Runtime) -> None:
    request = _request([noop_step("first"), UNBOUNDED], None)
    capped = _with_budgets(house, {"project": {"default": {"usd": 1}}})
    before, stored = _rows(house), set(house.settings.content_root().rglob("*"))

    for context, asked in ((capped, request), (house.context, replace(request, budget=Budget(usd_nano=1)))):
        with pytest.raises(PlanRejected) as rejected:
            submit(context, asked)
        assert [(fault.code, fault.step) for fault in rejected.value.faults] == [
            ("missing_max_tokens", "ask"),
            ("unknown_price", "ask"),
        ]
    assert _rows(house) == before
    assert set(house.settings.content_root().rglob("*")) == stored


def test_a_run_that_there_is_already_is_found_whatever_the_configuration_says_by_then(house: Runtime) -> None:
    request = _request([UNBOUNDED], "key")
    run_id = submit(house.context, request).run_id
    capped = _with_budgets(house, {"installation": {"usd": 1}})

    with pytest.raises(PlanRejected):
        submit(capped, replace(request, idempotency_key="other"))
    assert submit(capped, request).run_id == run_id


def test_a_run_is_safe_although_its_doorbells_cannot_be_sent(house: Runtime) -> None:
    away = Runtime(house.settings.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")}))

    submitted = submit(away.context, _request([command_step("one", "true")], "key"))
    away.close()

    assert (submitted.is_existing, submitted.is_sent) == (False, False)
    assert run_state(house.context, submitted.run_id) is RunState.RUNNING
    with house.context.database.transaction() as tx:
        assert tx.execute(text("SELECT count(*) FROM step WHERE sent_at IS NOT NULL")).scalar_one() == 0
    assert work_off(house, submitted.run_id) is RunState.COMPLETED
    assert verify_run(house.context, submitted.run_id).findings == ()


def test_a_process_with_another_store_is_refused_and_furnishes_nothing(house: Runtime, tmp_path: Path) -> None:
    elsewhere = SharedDirectory(tmp_path / "elsewhere")

    with pytest.raises(StoreMismatch, match="AGENTFLOW_CONTENT_DIR"):
        submit(replace(house.context, store=elsewhere), _request([noop_step("a")], None))

    assert not elsewhere.root.exists()
    assert _rows(house)["run"] == 0
