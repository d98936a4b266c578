"""What a person says to a run reaches its next model call, counts in its bound, and is found nowhere else."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from sqlalchemy import text

from agentflow.domain.error import InvalidTransition, NotFound, UsageError
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.outcome import AttemptOutcome, Failed, Lost, Released
from agentflow.domain.override import Skip, Succeed
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.state import RunState
from agentflow.engine.claim import Claimed, claim
from agentflow.engine.guide import INTRODUCTION, MAX_BYTES, Guidance, Guided, guide
from agentflow.engine.override import Asked, override
from agentflow.engine.verify import verify_run
from agentflow.runtime import Runtime
from tests.factories import noop_step, submitted, wait_for, wait_for_end, work_off
from tests.integration.engine.conftest import ModelStation
from tests.integration.engine.foreach_play import finish, take
from tests.integration.engine.test_model_steps import calls_of, files_of, llm_step
from tests.model_stub import Arrival, failing

SENTINEL = "sentinel-of-a-guiding-person"


def _guide(house: Runtime, run_id: RunId, said: str = SENTINEL, step: str | None = None) -> Guided:
    key = None if step is None else StepKey(step)
    return guide(house.context, Guidance(run_id, said, key, "ana"))


def _claims(house: Runtime, run_id: RunId) -> list[dict[str, Any]]:
    with house.context.database.transaction() as tx:
        found = text("SELECT facts FROM audit_event WHERE run_id = :id AND action = 'claim' ORDER BY id")
        return list(tx.execute(found, {"id": run_id}).scalars())


def _system(arrival: Arrival) -> str:
    return "".join(each["content"] for each in arrival.body["messages"] if each["role"] == "system")


def _resting(house: Runtime, *steps: dict[str, Any], **fields: Any) -> RunId:
    """A run of which nothing has begun: its first step waits."""
    return submitted(house.context, [{"id": "hold", "needs": [], "wait": {"for": "1h"}}, *steps], **fields)


def _begin(house: Runtime, run_id: RunId) -> None:
    override(house.context, Asked(run_id, StepKey("hold"), Succeed(), "ana", "it has waited enough"))


def test_the_next_call_says_it_behind_its_system_text_and_only_that_one(models: ModelStation) -> None:
    house = models.house
    run_id = _resting(
        house,
        llm_step("first", system="Be brief.", prompt="Go.", max_tokens=20, needs=["hold"]),
        llm_step("second", prompt="Go on.", max_tokens=20, needs=["first"]),
    )

    guided = _guide(house, run_id)
    _begin(house, run_id)

    assert wait_for_end(house.context, run_id) is RunState.COMPLETED
    first, second = models.stub.wait_for_arrivals(2)
    assert _system(first) == f"Be brief.\n\n{INTRODUCTION}\n\n{SENTINEL}"
    assert SENTINEL not in str(second.body)
    assert [facts.get("guidance") for facts in _claims(house, run_id)] == [[guided.sha256], None]
    assert verify_run(house.context, run_id).is_intact


def test_a_retried_call_says_it_again(models: ModelStation) -> None:
    house = models.house
    models.stub.queue(failing(500))
    run_id = _resting(house, llm_step("ask", needs=["hold"], max_tokens=20, retry={"max_attempts": 2, "base": "1ms"}))

    _guide(house, run_id, step="ask")
    _begin(house, run_id)

    assert wait_for_end(house.context, run_id) is RunState.COMPLETED
    assert [SENTINEL in _system(arrival) for arrival in models.stub.wait_for_arrivals(2)] == [True, True]


def test_it_counts_in_the_bound_of_the_call(models: ModelStation) -> None:
    """A run whose tokens cover its call as planned rests with long guidance, before anything is sent."""
    house = models.house
    run_id = _resting(house, llm_step("ask", needs=["hold"], max_tokens=20), budget={"tokens": 300})

    _guide(house, run_id, "more " * 100)
    _begin(house, run_id)

    def is_exhausted() -> bool:
        with house.context.database.transaction() as tx:
            found = text("SELECT exhausted IS NOT NULL FROM run_state WHERE run_id = :id")
            return bool(tx.execute(found, {"id": run_id}).scalar_one())

    wait_for(is_exhausted)
    assert models.stub.wait_until_idle() == []


def test_what_was_said_stands_in_one_file_of_the_store_and_in_no_row(models: ModelStation) -> None:
    house = models.house
    run_id = _resting(house, llm_step("ask", needs=["hold"], max_tokens=20))

    _guide(house, run_id)
    _begin(house, run_id)
    wait_for_end(house.context, run_id)

    [file] = [path for path in files_of(house, run_id) if SENTINEL in path.read_text(errors="replace")]
    assert file.stat().st_mode & 0o777 == 0o600
    with house.context.database.transaction() as tx:
        tables = tx.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")).scalars().all()
        rows = "".join(str(tx.execute(text(f"SELECT * FROM {table}")).all()) for table in tables)
    assert SENTINEL not in rows
    assert SENTINEL not in models.worker.output()
    assert len(calls_of(house, run_id)) == 1


def test_of_two_calls_that_begin_at_once_one_gets_it(house: Runtime) -> None:
    run_id = submitted(house.context, [llm_step("a", max_tokens=5), llm_step("b", max_tokens=5)])
    _guide(house, run_id)
    start, taken = threading.Barrier(2), list[Claimed]()

    def begin(key: str) -> None:
        start.wait()
        claimed = claim(house.context, run_id, StepKey(key), "test:0")
        assert isinstance(claimed, Claimed)
        taken.append(claimed)

    threads = [threading.Thread(target=begin, args=(key,)) for key in ("a", "b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert sorted(len(claimed.guidance) for claimed in taken) == [0, 1]


def test_guidance_for_a_step_waits_for_any_item_of_it(house: Runtime) -> None:
    ask = {"model": "stub:ok", "prompt": "Go.", "max_tokens": 5}
    run_id = submitted(house.context, [{"id": "each", "foreach": {"items": [1, 2]}, "llm": ask}])
    _guide(house, run_id, step="each")
    _guide(house, run_id, "another", step="each[1]")

    claimed = [claim(house.context, run_id, StepKey(f"each[{item}]"), "test:0") for item in (1, 0)]

    assert [len(each.guidance) for each in claimed if isinstance(each, Claimed)] == [2, 0]


UNSENT = Failed(Reason(ReasonCode.CONTENT, {"problem": "tested"}), is_permanent=True)
DRAINED = Released(Reason(ReasonCode.DRAINED))
LOST = Lost(Reason(ReasonCode.WORKER_LOST))


@pytest.mark.parametrize("outcome", [UNSENT, DRAINED, LOST], ids=["failed", "given back", "lost"])
def test_it_goes_to_the_next_call_where_the_step_that_took_it_ends_without_one(
    house: Runtime, outcome: AttemptOutcome
) -> None:
    steps = [llm_step(key, max_tokens=5, on_failure="ignore", on_lost="hold") for key in ("a", "b", "c")]
    run_id = submitted(house.context, steps)
    _guide(house, run_id)
    first = take(house, run_id, "a")
    _guide(house, run_id, "another", step="a")

    finish(house, first, outcome)

    if outcome is not UNSENT:  # it is still of the step, which may say it yet
        later = take(house, run_id, "b")
        assert (len(first.guidance), later.guidance) == (1, ())
        override(house.context, Asked(run_id, StepKey("a"), Skip(), "ana", "it takes too long"))
        finish(house, later)
    taken = take(house, run_id, "c")
    assert taken.guidance == first.guidance
    assert verify_run(house.context, run_id).is_intact


def test_a_step_that_is_given_back_says_it_when_it_begins_again(house: Runtime) -> None:
    run_id = submitted(house.context, [llm_step("a", max_tokens=5), llm_step("b", max_tokens=5)])
    _guide(house, run_id)
    first = take(house, run_id, "a")
    _guide(house, run_id, "another", step="a")

    finish(house, first, DRAINED)

    assert take(house, run_id, "b").guidance == ()
    again = take(house, run_id, "a").guidance
    assert (len(again), again[0]) == (2, first.guidance[0])


@pytest.mark.parametrize(("first", "is_said_again"), [("no-key", True), ("at-length", False)])
def test_a_failed_step_has_used_it_up_only_if_its_model_answered(
    models: ModelStation, first: str, is_said_again: bool
) -> None:
    house = models.house
    run_id = _resting(
        house,
        llm_step("a", first, max_tokens=20, needs=["hold"], on_failure="ignore"),
        llm_step("b", max_tokens=20, needs=["a"], when="always"),
    )

    _guide(house, run_id)
    _begin(house, run_id)

    assert wait_for_end(house.context, run_id) is RunState.COMPLETED
    failed, last = models.stub.wait_for_arrivals(2)
    assert (SENTINEL in _system(failed), SENTINEL in str(last.body)) == (True, is_said_again)


def test_what_nobody_would_hear_is_refused(house: Runtime) -> None:
    quiet = submitted(house.context, [noop_step("a")])
    asking = submitted(house.context, [llm_step("ask", max_tokens=5), noop_step("b")])

    with pytest.raises(UsageError, match="No step of the run calls a model"):
        _guide(house, quiet)
    with pytest.raises(UsageError, match="'b' never calls"):
        _guide(house, asking, step="b")
    with pytest.raises(NotFound, match="no step 'ast': did you mean 'ask'"):
        _guide(house, asking, step="ast")
    for said in ("", " \n", "x" * (MAX_BYTES + 1)):
        with pytest.raises(UsageError, match="1 to 65,536 bytes"):
            _guide(house, asking, said)
    work_off(house, quiet)
    with pytest.raises(InvalidTransition, match="has ended"):
        _guide(house, quiet)
    assert files_of(house, quiet) == []
