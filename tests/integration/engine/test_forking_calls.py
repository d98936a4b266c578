"""Forks of runs with model calls, and by real workers: a call is made again only if its answer is gone and needed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sqlalchemy import text

from agentflow.domain.budget import Budget
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.state import RunState
from agentflow.engine.fork import Forked, ForkRequest, fork
from agentflow.engine.verify import verify_run
from agentflow.runtime import Runtime
from agentflow.storage.whole_run import read_run
from tests.factories import command_step, lines_of, step_rows, submitted, wait_for, wait_for_end
from tests.integration.engine.conftest import ModelStation
from tests.integration.engine.test_model_steps import llm_step

ONCE = {"retry": 1}


def _fork(house: Runtime, run_id: RunId, step: str, **asked: Any) -> Forked:
    return fork(house.context, run_id, ForkRequest(StepKey(step), "tester@test", **asked))


def _reading(key: str, script: str, needs: list[str], of: str = "ask") -> dict[str, Any]:
    return command_step(key, "/bin/sh", "-c", script, needs=needs, stdin=f"{{{{ steps.{of}.text }}}}", **ONCE)


def _stdout(models: ModelStation, run_id: RunId, step: str) -> bytes:
    folder = models.house.settings.content_root() / "runs" / str(run_id) / "steps" / step / "1"
    return (folder / "stdout").read_bytes()


def _answers(models: ModelStation, run_id: RunId) -> list[str]:
    folder = models.house.settings.content_root() / "runs" / str(run_id)
    return sorted(path.parts[-3] for path in folder.rglob("text"))


def test_calls_are_made_again_only_where_their_answer_went_and_is_read(models: ModelStation, tmp_path: Path) -> None:
    gate, log = tmp_path / "gate", tmp_path / "log"
    run_id = submitted(
        models.house.context,
        [
            llm_step("ask", prompt="Asked."),
            llm_step("kept", prompt="Kept.", keep_content=True),
            llm_step("mute", prompt="Read by nobody."),
            llm_step("early", prompt="Read by a step that is taken over."),
            _reading("digest", f"echo digest >> {log}; cat", needs=["early"], of="early"),
            command_step(
                "use",
                *("/bin/sh", "-c", f"cat; [ -e {gate} ]"),
                needs=["ask", "kept", "mute", "digest"],
                stdin="{{ steps.ask.text }} {{ steps.kept.text }} {{ steps.digest.stdout }}",
                **ONCE,
            ),
        ],
    )
    assert wait_for_end(models.house.context, run_id) is RunState.FAILED
    assert len(models.stub.arrivals) == 4
    assert _answers(models, run_id) == ["kept"]
    gate.touch()

    forked = _fork(models.house, run_id, "use")

    assert forked.reused == ("kept", "mute", "early", "digest")
    assert wait_for_end(models.house.context, forked.run_id) is RunState.COMPLETED
    assert len(models.stub.arrivals) == 5
    assert _stdout(models, forked.run_id, "use").decode().count("echo: ") == 3
    assert lines_of(log) == ["digest"]
    with models.house.context.database.transaction() as tx:
        usage = read_run(tx, forked.run_id).usage
    assert (usage.calls, usage.attempts) == (1, 2)
    assert _answers(models, forked.run_id) == ["kept"]
    assert verify_run(models.house.context, forked.run_id).findings == ()


def test_what_read_an_answer_that_is_asked_for_again_runs_again_too(models: ModelStation) -> None:
    run_id = submitted(
        models.house.context,
        [
            llm_step("ask"),
            _reading("digest", "cat", needs=["ask"]),
            _reading("use", "cat", needs=["digest"]),
        ],
    )
    assert wait_for_end(models.house.context, run_id) is RunState.COMPLETED

    forked = _fork(models.house, run_id, "use")

    assert forked.reused == ()
    assert wait_for_end(models.house.context, forked.run_id) is RunState.COMPLETED
    assert len(models.stub.arrivals) == 2


def test_a_fork_of_a_run_that_goes_on_takes_its_answers_along(models: ModelStation, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    waiting = f"while [ ! -e {gate} ]; do sleep 0.05; done; cat"
    run_id = submitted(models.house.context, [llm_step("ask", max_tokens=50), _reading("use", waiting, needs=["ask"])])
    wait_for(lambda: step_rows(models.house.context, run_id)["use"].state == "running")

    forked = _fork(models.house, run_id, "use", budget=Budget(tokens=1))
    assert forked.reused == ("ask",)
    assert _answers(models, forked.run_id) == ["ask"]
    gate.touch()

    assert wait_for_end(models.house.context, run_id) is RunState.COMPLETED
    assert wait_for_end(models.house.context, forked.run_id) is RunState.COMPLETED, "a token would be too much"
    assert len(models.stub.arrivals) == 1
    assert _stdout(models, forked.run_id, "use") == _stdout(models, run_id, "use") == b"echo: Say something."
    assert _answers(models, forked.run_id) == _answers(models, run_id) == []


def test_what_models_said_stands_in_no_row_of_a_fork(models: ModelStation) -> None:
    word = "a-sentinel-that-models-say"
    run_id = submitted(
        models.house.context,
        [llm_step("ask", prompt=word, keep_content=True), _reading("use", "cat > /dev/null", needs=["ask"])],
    )
    assert wait_for_end(models.house.context, run_id) is RunState.COMPLETED
    forked = _fork(models.house, run_id, "use")
    assert wait_for_end(models.house.context, forked.run_id) is RunState.COMPLETED

    with models.house.context.database.transaction() as tx:
        tables = tx.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).scalars().all()
        found = {
            table: tx.execute(
                text(f'SELECT count(*) FROM "{table}" AS t WHERE t::text LIKE :word'), {"word": f"%{word}%"}
            )
            for table in tables
        }
        assert {table: rows.scalar_one() for table, rows in found.items()} == dict.fromkeys(tables, 0)
