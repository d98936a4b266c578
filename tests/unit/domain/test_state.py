"""What a user is shown of a run follows from its facts, by one precedence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.domain.state import (
    FINAL_ATTEMPT_STATES,
    FINAL_RUN_STATES,
    FINAL_STEP_STATES,
    MOVING_STEP_STATES,
    RESTING_RUN_STATES,
    AttemptState,
    RunFacts,
    RunState,
    ShownRunState,
    StepState,
    is_final,
    shown_state,
    standing,
)

FACTS = st.builds(
    RunFacts,
    state=st.sampled_from(RunState),
    is_paused=st.booleans(),
    is_exhausted=st.booleans(),
    moving_steps=st.integers(0, 3),
    held_steps=st.integers(0, 3),
)
UNMOVED = (*FINAL_RUN_STATES, RunState.CANCELLING, RunState.FAILING)


@given(FACTS)
def test_every_combination_of_facts_has_a_shown_state(facts: RunFacts) -> None:
    assert isinstance(shown_state(facts), ShownRunState)


@given(FACTS.filter(lambda facts: facts.state in UNMOVED))
def test_a_run_that_ends_or_has_ended_is_shown_as_it_is(facts: RunFacts) -> None:
    assert shown_state(facts).value == facts.state.value


@pytest.mark.parametrize(
    ("facts", "shown"),
    [
        (RunFacts(RunState.RUNNING, is_paused=True, is_exhausted=True, held_steps=1), ShownRunState.PAUSED),
        (RunFacts(RunState.RUNNING, is_exhausted=True, held_steps=1), ShownRunState.EXHAUSTED),
        (RunFacts(RunState.RUNNING, held_steps=1), ShownRunState.WAITING),
        (RunFacts(RunState.RUNNING, held_steps=1, moving_steps=1), ShownRunState.RUNNING),
        (RunFacts(RunState.RUNNING), ShownRunState.RUNNING),
        (RunFacts(RunState.PENDING, held_steps=1), ShownRunState.PENDING),
        (RunFacts(RunState.PENDING, is_paused=True), ShownRunState.PAUSED),
    ],
)
def test_the_precedence_of_facts_is_paused_exhausted_waiting_running(facts: RunFacts, shown: ShownRunState) -> None:
    assert shown_state(facts) is shown


def test_final_means_the_same_for_stored_and_shown_states() -> None:
    assert {state.value for state in RunState if is_final(state)} == {state.value for state in FINAL_RUN_STATES}
    assert {state.value for state in ShownRunState if is_final(state)} == {state.value for state in FINAL_RUN_STATES}


def test_every_stored_run_state_can_be_shown() -> None:
    assert {state.value for state in RunState} < {state.value for state in ShownRunState}


def test_a_resting_run_is_never_a_final_one() -> None:
    assert not any(is_final(state) for state in RESTING_RUN_STATES)


def test_what_moves_is_not_final_and_what_is_final_does_not_run() -> None:
    assert not MOVING_STEP_STATES & FINAL_STEP_STATES
    assert StepState.HELD not in MOVING_STEP_STATES | FINAL_STEP_STATES
    assert frozenset(AttemptState) - FINAL_ATTEMPT_STATES == {AttemptState.RUNNING}


def test_only_what_has_ended_is_said_to_have_ended() -> None:
    said = {state: standing(state) for state in RunState}
    assert {state for state in RunState if said[state] == f"has ended ({state})"} == set(FINAL_RUN_STATES)
    assert (said[RunState.PENDING], said[RunState.FAILING]) == ("is pending", "is failing")
