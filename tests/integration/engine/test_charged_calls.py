"""What calls use is counted once and in every budget, through the verbs that a worker goes through."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from agentflow.domain.budget import Amounts, Budget, ConfiguredBudgets, ScopeBudget, scopes_of
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.state import RunState
from agentflow.engine.context import EngineContext
from agentflow.engine.execute import Doorbell, execute
from agentflow.engine.reconcile import verify_ledger
from agentflow.engine.reserve import settle_ledger
from agentflow.executors.base import close_executors
from agentflow.runtime import Runtime
from agentflow.storage import spending
from tests.factories import attempt_rows, run_state, submitted
from tests.model_stub import ModelStub, Reply, Usage

USED = Usage(prompt=200, completion=100)
STEP = {"id": "ask", "llm": {"model": "stub:ok", "prompt": "Say something.", "max_tokens": 100}}
CAPPED = ConfiguredBudgets(project={"*": ScopeBudget(tokens=1000)})


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelStub]:
    with ModelStub() as server:
        for name, value in server.environment(tmp_path).items():
            monkeypatch.setenv(name, value)
        server.replies["ok"] = Reply(usage=USED)
        close_executors()
        yield server
        close_executors()


def _under(context: EngineContext, budgets: ConfiguredBudgets) -> EngineContext:
    return replace(context, settings=context.settings.model_copy(update={"budgets": budgets}))


def _call(house: Runtime, context: EngineContext, **fields: object) -> RunId:
    """Submit a run of one call and perform it in this process."""
    run_id = submitted(context, [STEP], **fields)
    execute(context, house.lease_keeper, Doorbell(run_id, StepKey("ask")), "test:0")
    return run_id


def test_a_project_that_is_capped_again_has_used_what_was_called_without_the_cap(
    house: Runtime, stub: ModelStub
) -> None:
    capped, free = _under(house.context, CAPPED), _under(house.context, ConfiguredBudgets())
    done = [_call(house, context) for context in (capped, free, free, free)]

    refused = _call(house, capped)

    assert [run_state(house.context, run_id) for run_id in done] == [RunState.COMPLETED] * 4
    assert [row.state for row in attempt_rows(house.context, refused)] == ["released"]
    assert len(stub.arrivals) == 4
    assert verify_ledger(capped) == []


def test_a_call_is_counted_once_however_often_and_late_the_ledger_is_told(house: Runtime, stub: ModelStub) -> None:
    context = _under(house.context, CAPPED)
    run_id = _call(house, context, budget={"tokens": 1000})
    [row] = attempt_rows(context, run_id)
    scopes = scopes_of(run_id, Budget(tokens=1000), "default", None, row.started_at, CAPPED)

    for _ in range(2):
        settle_ledger(context, row.id, scopes, Amounts(steps=1, tokens=300), row.reserved["granted"])

    accounts = [account for account in context.ledger.read_all([scope.name for scope in scopes]) if account]
    assert [account.scope for account in accounts] == [f"run:{run_id}", "project:default"]
    for account in accounts:
        assert (account.used.tokens, account.held.tokens) == (300, 0)
        with context.database.transaction() as tx:
            assert spending.snapshot(tx, CAPPED.scope_named(account.scope)).used.tokens == 300
    assert len(stub.arrivals) == 1


def test_an_answer_whose_provider_reports_nonsense_is_kept_and_estimated(house: Runtime, stub: ModelStub) -> None:
    stub.replies["ok"] = Reply(usage=Usage(prompt=10**19))

    run_id = _call(house, house.context)

    assert run_state(house.context, run_id) is RunState.COMPLETED
    [row] = attempt_rows(house.context, run_id)
    with house.context.database.transaction() as tx:
        [usage] = spending.read_usage(tx, run_id)
    assert usage.estimated_calls == 1
    assert usage.input_tokens + usage.output_tokens == row.reserved["tokens"]
    assert len(stub.arrivals) == 1
