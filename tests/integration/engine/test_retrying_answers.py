"""Retries of runs whose steps read each other across others: calls are made again only if read, and readers wait."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agentflow.content import SharedDirectory
from agentflow.domain.error import StoreMismatch
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.state import RunState
from agentflow.engine.retry import Retried, retry
from agentflow.engine.verify import verify_run
from agentflow.runtime import Runtime
from tests.factories import (
    attempt_rows,
    command_step,
    lines_of,
    noop_step,
    run_state,
    shell_step,
    step_rows,
    submitted,
    wait_for_end,
    work_off,
)
from tests.integration.engine.conftest import ModelStation
from tests.integration.engine.test_model_steps import llm_step

ACTOR = "tester@test"
ONCE = {"retry": 1}


def _reading(key: str, needs: list[str], stdin: str, script: str = "cat", **fields: Any) -> dict[str, Any]:
    return command_step(key, "/bin/sh", "-c", script, needs=needs, stdin=stdin, **{**ONCE, **fields})


def _retry(house: Runtime, run_id: RunId, only: str | None = None) -> Retried:
    return retry(house.context, run_id, ACTOR, only=None if only is None else StepKey(only))


def _stdout(house: Runtime, run_id: RunId, step: str) -> bytes:
    number = max(row.number for row in attempt_rows(house.context, run_id, step))
    folder = house.settings.content_root() / "runs" / str(run_id) / "steps" / step / str(number)
    return (folder / "stdout").read_bytes()


def _attempts(house: Runtime, run_id: RunId) -> dict[str, int]:
    return {key: row.attempts for key, row in step_rows(house.context, run_id).items()}


def test_who_reads_a_lost_answer_across_another_step_waits_for_it(models: ModelStation, tmp_path: Path) -> None:
    gate, house = tmp_path / "gate", models.house
    run_id = submitted(
        house.context,
        [
            llm_step("ask"),
            _reading("digest", ["ask"], "digested"),
            _reading("use", ["digest"], "{{ steps.ask.text }}", f"cat; [ -e {gate} ]"),
        ],
    )
    assert wait_for_end(house.context, run_id) is RunState.FAILED
    gate.touch()

    retried = _retry(house, run_id)

    assert (retried.ready, retried.pending) == (("ask",), ("digest", "use"))
    assert wait_for_end(house.context, run_id) is RunState.COMPLETED
    assert _stdout(house, run_id, "use") == b"echo: Say something."
    assert _attempts(house, run_id) == {"ask": 2, "digest": 2, "use": 2}
    assert len(models.stub.arrivals) == 2
    assert verify_run(house.context, run_id).findings == ()


def test_calls_whose_answers_no_step_that_runs_again_reads_are_not_made_again(
    models: ModelStation, tmp_path: Path
) -> None:
    gate, log, house = tmp_path / "gate", tmp_path / "log", models.house
    run_id = submitted(
        house.context,
        [
            llm_step("ask", prompt="Asked."),
            llm_step("kept", prompt="Kept.", keep_content=True),
            llm_step("early", prompt="Read by a step that stays."),
            llm_step("decided", prompt="Read by a condition that is not asked again."),
            _reading("digest", ["early"], "{{ steps.early.text }}", f"echo digest >> {log}; cat"),
            _reading(
                "use",
                ["ask", "kept", "digest", "decided"],
                "{{ steps.ask.text }} {{ steps.kept.text }} {{ steps.digest.stdout }} {{ steps.early.state }}",
                f"cat; [ -e {gate} ]",
                when="'condition' in steps.decided.text",
            ),
        ],
    )
    assert wait_for_end(house.context, run_id) is RunState.FAILED
    assert len(models.stub.arrivals) == 4
    gate.touch()

    retried = _retry(house, run_id)

    # The condition is asked again after all, since what the step needs runs again; so its call is made as well.
    assert (retried.ready, retried.pending) == (("ask", "decided"), ("use",))
    assert wait_for_end(house.context, run_id) is RunState.COMPLETED
    assert lines_of(log) == ["digest"]
    assert _attempts(house, run_id) == {"ask": 2, "kept": 1, "early": 1, "decided": 2, "digest": 1, "use": 2}


def test_a_condition_that_is_not_asked_again_makes_no_call_again(models: ModelStation, tmp_path: Path) -> None:
    gate, house = tmp_path / "gate", models.house
    use = shell_step("use", f"[ -e {gate} ]", needs=["ask"], when="'Say' in steps.ask.text", **ONCE)
    run_id = submitted(house.context, [llm_step("ask"), use])
    assert wait_for_end(house.context, run_id) is RunState.FAILED
    gate.touch()

    assert _retry(house, run_id).ready == ("use",)

    assert wait_for_end(house.context, run_id) is RunState.COMPLETED
    assert len(models.stub.arrivals) == 1


def test_what_follows_from_a_call_that_is_made_again_may_need_another(models: ModelStation, tmp_path: Path) -> None:
    """``digest`` runs again after ``ask``, and reads ``other``, whose answer went too; ``aside`` follows and runs."""
    gate, log, house = tmp_path / "gate", tmp_path / "log", models.house
    run_id = submitted(
        house.context,
        [
            llm_step("ask"),
            llm_step("other", prompt="Another."),
            _reading("digest", ["ask", "other"], "{{ steps.other.text }}"),
            _reading("aside", ["ask"], "", f"echo aside >> {log}"),
            _reading("use", ["digest"], "{{ steps.ask.text }} {{ steps.digest.stdout }}", f"cat; [ -e {gate} ]"),
        ],
    )
    assert wait_for_end(house.context, run_id) is RunState.FAILED
    aside_ran = _attempts(house, run_id)["aside"]
    gate.touch()

    retried = _retry(house, run_id, only="use")

    assert (retried.ready, retried.pending) == (("ask", "other"), ("digest", "aside", "use"))
    assert wait_for_end(house.context, run_id) is RunState.COMPLETED
    assert _stdout(house, run_id, "use") == b"echo: Say something. echo: Another."
    assert _attempts(house, run_id)["aside"] == aside_ran + 1


def test_what_it_refers_to_is_read_where_the_content_is(models: ModelStation, tmp_path: Path) -> None:
    house = models.house
    steps = [llm_step("ask"), _reading("use", ["ask"], "{{ steps.ask.text }}", "exit 1")]
    run_id = submitted(house.context, steps)
    assert wait_for_end(house.context, run_id) is RunState.FAILED
    before = step_rows(house.context, run_id)
    elsewhere = replace(house.context, store=SharedDirectory(tmp_path / "elsewhere"))

    with pytest.raises(StoreMismatch, match="AGENTFLOW_CONTENT_DIR"):
        retry(elsewhere, run_id, ACTOR)

    assert run_state(house.context, run_id) is RunState.FAILED
    assert step_rows(house.context, run_id) == before


def test_who_reads_a_step_that_is_taken_up_waits_for_it_across_one_that_ran_all_the_same(
    house: Runtime, tmp_path: Path
) -> None:
    gate, log = tmp_path / "gate", tmp_path / "log"
    run_id = submitted(
        house.context,
        [
            shell_step("fetch", f"[ -e {gate} ] && echo fetched", on_failure="continue", **ONCE),
            shell_step("note", f"echo note >> {log}", needs=["fetch"], when="always"),
            shell_step("aside", f"echo aside >> {log}", needs=["fetch"], when="always"),
            _reading("use", ["note"], "{{ steps.fetch.stdout }}", "grep fetched"),
        ],
    )
    assert work_off(house, run_id) is RunState.FAILED
    gate.touch()

    retried = _retry(house, run_id)

    assert (retried.ready, retried.pending) == (("fetch",), ("note", "use"))
    assert work_off(house, run_id) is RunState.COMPLETED
    assert sorted(lines_of(log)) == ["aside", "note", "note"]


def test_a_retry_reads_nothing_of_steps_that_nothing_was_lost_for(house: Runtime, tmp_path: Path) -> None:
    run_id = submitted(house.context, [noop_step("a"), _reading("b", ["a"], "text", "exit 1")])
    assert work_off(house, run_id) is RunState.FAILED

    elsewhere = replace(house.context, store=SharedDirectory(tmp_path / "elsewhere"))

    assert retry(elsewhere, run_id, ACTOR).ready == ("b",)
