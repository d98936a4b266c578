"""Written conditions may be slow, broken or unreadable: the step that was settled stays settled."""

from __future__ import annotations

import time

import pytest

from agentflow.content.store import Address
from agentflow.domain import expression
from agentflow.domain.state import RunState
from agentflow.engine.verify import verify_run
from agentflow.runtime import Runtime
from agentflow.storage.database import IDLE_IN_TRANSACTION_SECONDS
from tests.factories import noop_step, shell_step, step_rows, submitted, work_off

STEPS = [
    shell_step("a", "echo 7", on_failure="continue"),
    noop_step("b", needs=["a"], when="steps.a.stdout == '7'"),
    noop_step("c", needs=["b"]),
]


@pytest.fixture
def slow_conditions(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Conditions that take longer than Postgres lets a transaction rest; as a slow content store makes them."""
    asked: list[str] = []
    holds = expression.holds

    def slowly(source: str, values: dict[str, object]) -> bool:
        asked.append(source)
        time.sleep(IDLE_IN_TRANSACTION_SECONDS + 1)  # what is tested is the time itself
        return holds(source, values)

    monkeypatch.setattr(expression, "holds", slowly)
    return asked


def test_a_slow_condition_holds_no_transaction(house: Runtime, slow_conditions: list[str]) -> None:
    run_id = submitted(house.context, STEPS)

    assert work_off(house, run_id) is RunState.COMPLETED
    assert len(slow_conditions) == 1
    assert verify_run(house.context, run_id).is_intact


def test_a_condition_that_cannot_be_read_skips_its_step_and_nothing_else(
    house: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_address: Address) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(house.context.store, "open", broken)
    run_id = submitted(house.context, STEPS)

    assert work_off(house, run_id) is RunState.PARTIAL
    rows = step_rows(house.context, run_id)
    assert {key: row.state for key, row in rows.items()} == {"a": "succeeded", "b": "skipped", "c": "skipped"}
    assert rows["b"].reason["code"] == "when_error"
    assert verify_run(house.context, run_id).is_intact


def test_a_full_temporary_directory_fails_the_attempt_at_once(house: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/proc/nowhere")
    run_id = submitted(house.context, [shell_step("a", "true", retry=1)])

    assert work_off(house, run_id) is RunState.FAILED
    assert step_rows(house.context, run_id)["a"].reason["code"] == "executor_error"
