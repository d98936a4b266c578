"""Lists and results that come from models: read where they are used, in no row, and gone when their run ends."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sqlalchemy import text

from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.state import RunState
from agentflow.engine.fork import ForkRequest, fork
from agentflow.engine.retry import retry
from agentflow.runtime import Runtime
from tests.factories import command_step, step_rows, submitted, wait_for_end
from tests.integration.engine.conftest import ModelStation
from tests.integration.engine.foreach_play import each, states
from tests.integration.engine.test_model_steps import llm_step
from tests.model_stub import Reply

ACTOR = "tester@test"
SECRET = "sentinel-7f3a"
ARRAY = {"type": "object", "properties": {"all": {"type": "array"}}, "required": ["all"], "additionalProperties": False}


def _lists(*items: Any) -> Reply:
    return Reply(text=json.dumps({"all": items}))


def _of(key: str, prompt: str) -> dict[str, Any]:
    return {"llm": llm_step(key, prompt=prompt)["llm"]}


def _stdout(house: Runtime, run_id: RunId, key: str) -> Any:
    folder = house.settings.content_root() / "runs" / str(run_id) / "steps" / key
    return json.loads((folder / str(max(int(attempt.name) for attempt in folder.iterdir())) / "stdout").read_text())


def _files(house: Runtime, run_id: RunId, name: str) -> list[str]:
    folder = house.settings.content_root() / "runs" / str(run_id) / "steps"
    return sorted(str(path.relative_to(folder)) for path in folder.rglob(name))


def test_what_a_model_lists_and_says_of_each_item_goes_with_the_run(models: ModelStation, tmp_path: Path) -> None:
    house, gate = models.house, tmp_path / "gate"
    models.stub.queue(_lists(f"{SECRET}-a", f"{SECRET}-b"))
    steps = [
        llm_step("ask", output_schema=ARRAY),
        each("say", "steps.ask.result.all", needs=("ask",), **_of("x", "About {{ item }}")),
        each("again", "steps.say.results", needs=("say",), **_of("x", "{{ item }}")),
        command_step("told", "/bin/sh", "-c", f"cat; [ -e {gate} ]", needs=["again"], retry=1,
                     stdin="{{ steps.again.results }}"),
    ]  # fmt: skip

    run_id = submitted(house.context, steps)

    assert wait_for_end(house.context, run_id, 60) is RunState.FAILED
    said = _stdout(house, run_id, "told")
    assert [f"{SECRET}-a" in said[0], f"{SECRET}-b" in said[1], len(said)] == [True, True, 2]
    assert _files(house, run_id, "items") == []
    assert _files(house, run_id, "text") == []
    with house.context.database.transaction() as tx:
        for table in ("step", "attempt", "audit_event", "run_state", "llm_call"):
            rows = tx.execute(text(f"SELECT count(*) FROM {table} AS t WHERE t::text LIKE '%{SECRET}%'"))
            assert rows.scalar_one() == 0, table

    gate.touch()
    models.stub.queue(_lists("c", "d"))
    done = retry(house.context, run_id, ACTOR)  # who reads the results reads answers that went
    assert done.ready == ("ask",)
    assert wait_for_end(house.context, run_id, 60) is RunState.COMPLETED
    assert len(_stdout(house, run_id, "told")) == 2


def test_a_retry_asks_again_for_a_list_that_its_items_read(models: ModelStation, tmp_path: Path) -> None:
    house, gate = models.house, tmp_path / "gate"
    models.stub.queue(_lists(1, 2))
    work = {"subprocess": {"command": ["/bin/sh", "-c", f"cat; [ -e {gate} ]"], "stdin": "{{ item }}"}, "retry": 1}
    steps = [llm_step("ask", output_schema=ARRAY), each("e", "steps.ask.result.all", needs=("ask",), **work)]
    run_id = submitted(house.context, steps)
    assert wait_for_end(house.context, run_id, 60) is RunState.FAILED
    gate.touch()
    models.stub.queue(_lists(3, 4))

    done = retry(house.context, run_id, ACTOR)

    assert done.ready == ("ask",)
    assert wait_for_end(house.context, run_id, 60) is RunState.COMPLETED
    assert [_stdout(house, run_id, f"e[{item}]") for item in (0, 1)] == [3, 4]


def test_a_list_that_is_longer_when_it_is_asked_for_again_says_to_fork(models: ModelStation, tmp_path: Path) -> None:
    house, gate = models.house, tmp_path / "gate"
    models.stub.queue(_lists(1, 2))
    work = {"subprocess": {"command": ["/bin/sh", "-c", f"cat; [ -e {gate} ]"], "stdin": "{{ item }}"}, "retry": 1}
    steps = [llm_step("ask", output_schema=ARRAY), each("e", "steps.ask.result.all", needs=("ask",), **work)]
    run_id = submitted(house.context, steps)
    assert wait_for_end(house.context, run_id, 60) is RunState.FAILED
    gate.touch()
    models.stub.queue(_lists(1, 2, 3))

    retry(house.context, run_id, ACTOR)

    assert wait_for_end(house.context, run_id, 60) is RunState.FAILED
    row = step_rows(house.context, run_id)["e"]
    assert (row.state, row.reason["code"]) == ("failed", "items")
    assert "had 2" in row.reason["detail"]["problem"]
    assert "fork" in row.reason["detail"]["problem"]
    assert states(house, run_id)["e[0]"] == states(house, run_id)["e[1]"] == "skipped"

    models.stub.queue(_lists(5, 6, 7))
    forked = fork(house.context, run_id, ForkRequest(StepKey("e"), ACTOR))
    assert wait_for_end(house.context, forked.run_id, 60) is RunState.COMPLETED
    assert _stdout(house, forked.run_id, "e[2]") == 7
