"""The guards in the SQL files let exactly those states through that the transition table allows."""

from __future__ import annotations

import re
from contextlib import nullcontext
from importlib import resources
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import Connection, text
from sqlalchemy.exc import NoResultFound

from agentflow.broker.queues import QUEUE_NAMES
from agentflow.domain.beginning import Ends
from agentflow.domain.ids import AttemptId, ClaimToken, RunId, StepId, StepKey, step_id
from agentflow.domain.pause import Pause, PauseScope
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.state import FINAL_RUN_STATES, FINAL_STEP_STATES, AttemptState, RunState, StepState
from agentflow.domain.transition import ATTEMPT_TRANSITIONS, RUN_TRANSITIONS, STEP_TRANSITIONS
from agentflow.runtime import Runtime
from agentflow.storage import attempts, claims, interventions, runs, steps
from tests.factories import noop_step, submitted

R, S, A = RunState, StepState, AttemptState
REASON = Reason(ReasonCode.CANCELLED, {"actor": "tester"})

WRITERS = {
    "claim_step": "steps",
    "end_attempt": "attempts and steps",
    "end_begun_steps": "steps of the engine",
    "end_held_step": "steps of the engine",
    "end_waiting_steps": "steps",
    "hold_steps": "steps of the engine",
    "insert_reused_steps": "new steps of forks",
    "insert_run_state": "new runs",
    "insert_steps": "new steps",
    "move_steps": "steps",
    "open_fork_steps": "steps of forks",
    "override_step": "steps",
    "reopen_run": "runs",
    "reopen_steps": "steps",
    "set_run_state": "runs",
}
"""Every statement that writes a state of a run, step or attempt; held by a test below, of forks by test_forking."""


def _from(new: StepState, *verbs: str) -> set[StepState]:
    """The states out of which one of the verbs leads to ``new``."""
    return {old for (old, to), allowed in STEP_TRANSITIONS.items() if to is new and allowed & set(verbs)}


@pytest.fixture
def run_id(house: Runtime) -> RunId:
    """A run of one step."""
    return submitted(house.context, [noop_step("one")])


@pytest.fixture
def only_step(run_id: RunId) -> StepId:
    """Its step."""
    return step_id(run_id, StepKey("one"))


def _put_step(tx: Connection, step: StepId, state: StepState) -> None:
    tx.execute(
        text("UPDATE step SET state = :state, sent_at = NULL, not_before = now() WHERE id = :id"),
        {"state": state.value, "id": step},
    )


def _put_run(tx: Connection, run_id: RunId, state: RunState) -> None:
    tx.execute(
        text("UPDATE run_state SET state = :state, ended_at = CASE WHEN :is_final THEN now() END WHERE run_id = :id"),
        {"state": state.value, "is_final": state in FINAL_RUN_STATES, "id": run_id},
    )


def _step_state(tx: Connection, step: StepId) -> StepState:
    return StepState(tx.execute(text("SELECT state FROM step WHERE id = :id"), {"id": step}).scalar_one())


def _claim(tx: Connection, run_id: RunId, step: StepId, token: ClaimToken | None = None) -> Any:
    return claims.claim(
        tx,
        run_id,
        step,
        attempt_id=AttemptId(uuid4()),
        claim_token=token or ClaimToken(uuid4()),
        worker="test:0",
        lease_seconds=20,
    )


def test_every_statement_that_writes_a_state_is_known_here() -> None:
    folder = resources.files("agentflow.storage").joinpath("sql")
    sources = {entry.name.removesuffix(".sql"): entry.read_text() for entry in folder.iterdir()}
    sets_state = re.compile(
        r"\bUPDATE (run_state|step|attempt)\b[^;]*?\bSET\b[^;]*?\bstate\s*="
        r"|INSERT INTO (run_state|step|attempt) \([^)]*\bstate\b",
        re.DOTALL,
    )
    code = {name: re.sub(r"--.*", "", source) for name, source in sources.items()}
    assert {name for name, source in code.items() if sets_state.search(source)} == set(WRITERS)


@pytest.mark.parametrize("state", StepState)
def test_a_claim_takes_a_step_from_the_states_of_the_table(
    house: Runtime, run_id: RunId, only_step: StepId, state: StepState
) -> None:
    with house.context.database.transaction() as tx:
        _put_step(tx, only_step, state)
        taken = _claim(tx, run_id, only_step)
        assert (taken is not None) == (state in _from(S.RUNNING, "claim"))
        assert _step_state(tx, only_step) is (S.RUNNING if taken else state)


@pytest.mark.parametrize("state", StepState)
@pytest.mark.parametrize("new_state", [S.SUCCEEDED, S.SKIPPED])
def test_an_override_ends_the_steps_of_the_table(
    house: Runtime, only_step: StepId, state: StepState, new_state: StepState
) -> None:
    with house.context.database.transaction() as tx:
        _put_step(tx, only_step, state)
        is_allowed = state in _from(new_state, "override")
        with nullcontext() if is_allowed else pytest.raises(NoResultFound):
            interventions.override(tx, only_step, Ends(new_state, REASON))
        assert _step_state(tx, only_step) is (new_state if is_allowed else state)


@pytest.mark.parametrize("state", RunState)
def test_a_claim_takes_steps_of_running_runs_only(
    house: Runtime, run_id: RunId, only_step: StepId, state: RunState
) -> None:
    with house.context.database.transaction() as tx:
        _put_run(tx, run_id, state)
        assert (_claim(tx, run_id, only_step) is not None) == (state is R.RUNNING)


@pytest.mark.parametrize("state", StepState)
def test_an_attempt_is_held_only_while_its_step_runs(
    house: Runtime, run_id: RunId, only_step: StepId, state: StepState
) -> None:
    token = ClaimToken(uuid4())
    with house.context.database.transaction() as tx:
        _claim(tx, run_id, only_step, token)
        _put_step(tx, only_step, state)
        assert (attempts.hold(tx, only_step, token) is not None) == (state is S.RUNNING)


@pytest.mark.parametrize("state", AttemptState)
def test_an_attempt_is_held_only_while_it_runs(
    house: Runtime, run_id: RunId, only_step: StepId, state: AttemptState
) -> None:
    token = ClaimToken(uuid4())
    with house.context.database.transaction() as tx:
        _claim(tx, run_id, only_step, token)
        ended = "" if state is A.RUNNING else ", ended_at = now()"
        tx.execute(text(f"UPDATE attempt SET state = :state{ended}"), {"state": state.value})
        is_held = attempts.hold(tx, only_step, token) is not None
        assert is_held == any(old is state for old, _ in ATTEMPT_TRANSITIONS)


@pytest.mark.parametrize(("new", "verb"), [(S.SKIPPED, "settle"), (S.CANCELLED, "cancel")])
def test_the_end_of_a_run_takes_the_waiting_steps_of_the_table(
    house: Runtime, run_id: RunId, only_step: StepId, new: StepState, verb: str
) -> None:
    taken = set()
    for state in StepState:
        with house.context.database.transaction() as tx:
            _put_step(tx, only_step, state)
            if steps.end_waiting(tx, run_id, new, REASON):
                taken.add(state)
                assert _step_state(tx, only_step) is new
    assert taken == _from(new, verb) - {S.RUNNING}


def test_a_retry_takes_up_the_steps_of_the_table(house: Runtime, only_step: StepId) -> None:
    taken = set()
    for state in StepState:
        with house.context.database.transaction() as tx:
            _put_step(tx, only_step, state)
            if steps.reopen(tx, [only_step]):
                taken.add(state)
                assert _step_state(tx, only_step) is S.PENDING
    assert taken == _from(S.PENDING, "retry")


def test_a_retry_sets_going_the_runs_of_the_table(house: Runtime, run_id: RunId) -> None:
    taken = set()
    for state in RunState:
        with house.context.database.transaction() as tx:
            _put_run(tx, run_id, state)
            run = runs.lock(tx, run_id)
            assert run is not None
            runs.reopen(tx, run, open_sinks=1)
            again = runs.lock(tx, run_id)
            assert again is not None
            if again.state is R.RUNNING and state is not R.RUNNING:
                taken.add(state)
                assert again.round > run.round
    assert taken == {old for (old, new), verbs in RUN_TRANSITIONS.items() if new is R.RUNNING and "retry" in verbs}


def test_moves_start_only_from_the_state_that_was_seen(house: Runtime, run_id: RunId, only_step: StepId) -> None:
    for seen in StepState:
        for actual in StepState:
            with house.context.database.transaction() as tx:
                _put_step(tx, only_step, actual)
                moved = steps.move(tx, [only_step], [seen], S.CANCELLED, REASON)
                assert bool(moved) == (seen is actual)
    for actual in RunState:
        with house.context.database.transaction() as tx:
            _put_run(tx, run_id, R.RUNNING)
            run = runs.lock(tx, run_id)
            assert run is not None
            _put_run(tx, run_id, actual)
            if actual is R.RUNNING:
                runs.set_state(tx, run, R.FAILING)
            else:
                with pytest.raises(Exception, match="No row"):
                    runs.set_state(tx, run, R.FAILING)


def test_successors_are_told_only_while_they_wait(house: Runtime) -> None:
    run_id = submitted(house.context, [noop_step("one"), noop_step("two", needs=["one"])])
    one, two = (step_id(run_id, StepKey(key)) for key in ("one", "two"))
    for state in StepState:
        with house.context.database.transaction() as tx:
            tx.execute(text("UPDATE step SET needs_open = :open WHERE id = :id"), {"open": 0, "id": two})
            _put_step(tx, two, state)
            tx.execute(text("UPDATE step SET needs_open = 1 WHERE id = :id AND state = 'pending'"), {"id": two})
            told = steps.advance(tx, [one], S.SUCCEEDED)
            assert [step.needs_open for step in told] == ([0] if state is S.PENDING else [])


def test_the_final_states_written_in_sql_are_those_of_the_domain() -> None:
    folder = resources.files("agentflow.storage").joinpath("sql")
    literal = re.compile(r"state NOT IN \(([^)]*)\)")
    for entry in folder.iterdir():
        for listed in [] if "firing" in entry.name else literal.findall(entry.read_text()):  # firings have their own
            states = set(re.findall(r"'(\w+)'", listed))
            assert states in ({s.value for s in FINAL_STEP_STATES}, {s.value for s in FINAL_RUN_STATES}), entry.name


def test_only_a_running_run_is_paused_and_only_one_that_rests_is_resumed(house: Runtime, run_id: RunId) -> None:
    for state in RunState:
        with house.context.database.transaction() as tx:
            run = runs.lock(tx, run_id)
            assert run is not None
            _put_run(tx, run_id, state)
            with nullcontext() if state is R.RUNNING else pytest.raises(Exception, match="No row"):
                runs.pause(tx, run, Pause("tester", None, run.at, is_hard=False, scope=PauseScope.RUN))
            with nullcontext() if state is R.RUNNING else pytest.raises(Exception, match="No row"):
                runs.resume(tx, run)
            if state is R.RUNNING:
                with pytest.raises(Exception, match="No row"):
                    runs.resume(tx, run)


@pytest.mark.parametrize("rest", ["paused", "exhausted"])
def test_a_run_that_rests_for_any_reason_is_passed_over_by_whoever_lets_steps_start(
    house: Runtime, run_id: RunId, only_step: StepId, rest: str
) -> None:
    def found(tx: Connection) -> list[bool]:
        """Whether each of those who look for work finds the run; nothing that they write stays."""
        answers = []
        for setting, look in (
            ("sent_at = NULL", lambda: steps.find_due(tx).is_due),
            ("sent_at = NULL", lambda: any(steps.stamp_due(tx, queue, 9) for queue in QUEUE_NAMES)),
            ("sent_at = NULL, slot_key = 'k', slot_limit = 1", lambda: bool(steps.stamp_line(tx, QUEUE_NAMES, 9))),
            ("sent_at = NULL", lambda: _claim(tx, run_id, only_step) is not None),
            ("sent_at = NULL, state = 'succeeded'", lambda: bool(runs.find_over(tx, 9))),
        ):
            with tx.begin_nested() as savepoint:
                tx.execute(text("INSERT INTO slot (key, number) VALUES ('k', 1)"))
                tx.execute(text(f"UPDATE step SET not_before = now(), {setting}"))
                tx.execute(text("UPDATE run_state SET open_sinks = 0"))
                answers.append(look())
                savepoint.rollback()
        return answers

    with house.context.database.transaction() as tx:
        assert found(tx) == [True] * 5
        tx.execute(text(f"UPDATE run_state SET {rest} = '[]', rests_since = now()"))
        assert found(tx) == [False] * 5
        refusal = claims.find_refusal(tx, run_id, only_step)
        assert refusal is not None
        assert refusal.is_resting


def test_no_guard_asks_for_one_reason_to_rest_and_forgets_the_other() -> None:
    folder = resources.files("agentflow.storage").joinpath("sql")
    asking = re.compile(r"state = 'running' AND [a-z_.]*(?:exhausted|paused) IS NULL")
    assert [entry.name for entry in folder.iterdir() if asking.search(entry.read_text())] == []
