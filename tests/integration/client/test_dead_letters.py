"""Dead letters, by the client and by the command line: poisoned steps are listed and replayed, and nothing else is."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from agentflow import AgentFlow, errors
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.state import RunState
from agentflow.domain.transition import MAX_LOST
from agentflow.engine.claim import Claimed, claim
from agentflow.engine.rescue import rescue
from agentflow.engine.verify import verify_run
from agentflow.runtime import Runtime
from agentflow.settings import Settings
from agentflow.storage.attempts import LapsedAttempt
from tests.factories import noop_step, run_state, step_rows, submitted, work_off
from tests.unit.cli.answers import ask, complain, say


def _poisoned(house: Runtime, *keys: str, others: tuple[str, ...] = (), name: str = "tested") -> RunId:
    """A run whose steps ``keys`` lost their pool children each time; it has ended unless there are ``others``."""
    steps = [noop_step(key, on_failure="continue") for key in (*keys, *others)]
    run_id = submitted(house.context, steps, name=name)
    for key in keys:
        for number in range(MAX_LOST):
            with house.context.database.transaction() as tx:
                tx.execute(text("UPDATE step SET not_before = now() WHERE state = 'ready'"))
            taken = claim(house.context, run_id, StepKey(key), f"w{number}@h:7")
            assert isinstance(taken, Claimed)
            lost = LapsedAttempt(run_id, taken.step_id, taken.attempt_id)
            rescue(house.context, lost, "tester@test", is_known_lost=True)
    return run_id


def test_a_poisoned_step_is_listed_with_its_last_workers(
    house: Runtime, at_home: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = _poisoned(house, "bad", others=("fine",))
    _poisoned(house, "other", name="another")

    found = ask(capsys, "dead-letters", "--name", "tested")

    (letter,) = found["dead_letters"]
    assert (found["total"], letter["run"], letter["step"]) == (1, str(run_id), "bad")
    assert (letter["losses"], letter["workers"]) == (MAX_LOST, ["w2@h:7", "w1@h:7", "w0@h:7"])
    assert (letter["run_state"], letter["is_replayable"]) == ("running", False)
    assert ask(capsys, "dead-letters", "list")["total"] == 2
    assert ask(capsys, "dead-letters", "list", "--project", "elsewhere")["total"] == 0
    page = say(capsys, "dead-letters")
    assert "w2@h:7" in page
    assert "other" in page


def test_a_replay_takes_up_the_one_step_and_says_so_in_the_audit(
    house: Runtime, at_home: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    run_id = _poisoned(house, "bad", "worse")

    assert ask(capsys, "dead-letters", "replay", run_id, "bad", "--dry-run", schema="replay")["is_dry_run"]
    assert run_state(house.context, run_id) is RunState.FAILED

    answer = ask(capsys, "dead-letters", "replay", run_id, "bad", schema="replay")

    assert answer["runs"] == [{"run": str(run_id), "steps": ["bad"], "refusal": None}]
    rows = step_rows(house.context, run_id)
    assert (rows["bad"].state, rows["bad"].losses, rows["worse"].state) == ("ready", 0, "failed")
    (letter,) = ask(capsys, "dead-letters")["dead_letters"]
    assert letter["step"] == "worse"
    with house.context.database.transaction() as tx:
        (facts,) = tx.execute(text("SELECT facts FROM audit_event WHERE action = 'retry'")).scalars()
    assert facts == {"dead_letters": ["bad"]}
    assert verify_run(house.context, run_id).findings == ()


def test_a_replay_of_all_takes_up_every_run_once_and_leaves_those_that_go_on(
    house: Runtime, at_home: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    ended, going = _poisoned(house, "bad", "worse"), _poisoned(house, "bad", others=("fine",))

    dry = ask(capsys, "dead-letters", "replay", "--all", "--dry-run", schema="replay")
    assert len(dry["runs"]) == 2
    assert run_state(house.context, ended) is RunState.FAILED
    answer = ask(capsys, "dead-letters", "replay", "--all", schema="replay")

    by_run = {each["run"]: each for each in answer["runs"]}
    assert sorted(by_run[str(ended)]["steps"]) == ["bad", "worse"]
    assert by_run[str(ended)]["refusal"] is None
    assert "is still running" in by_run[str(going)]["refusal"]
    assert work_off(house, ended) is RunState.COMPLETED
    assert step_rows(house.context, going)["bad"].state == "failed"
    assert "Left as it is" in say(capsys, "dead-letters", "replay", "--all")


def test_only_dead_letters_are_replayed(house: Runtime, at_home: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    run_id, going = _poisoned(house, "bad"), _poisoned(house, "bad", others=("fine",))

    assert "did you mean 'bad'?" in complain(capsys, "dead-letters", "replay", run_id, "bat", code=2)
    assert "is still running" in complain(capsys, "dead-letters", "replay", going, "bad", code=2)
    for slip in ([], [run_id], ["--all", run_id, "bad"]):
        assert "Name a RUN and its STEP, or --all." in complain(capsys, "dead-letters", "replay", *slip, code=2)
    with AgentFlow(house.settings) as flow, pytest.raises(errors.UsageError, match="1 to 1000"):
        flow.dead_letters(limit=0)
