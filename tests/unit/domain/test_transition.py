"""The transition table is closed and every decision of the domain moves along it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.domain.blame import Company
from agentflow.domain.outcome import (
    ATTEMPT_STATES,
    AttemptOutcome,
    Cancelled,
    Failed,
    Lost,
    Released,
    Succeeded,
    TimedOut,
)
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.retry_policy import DEFAULT_RETRY, RetryPolicy
from agentflow.domain.state import (
    FINAL_ATTEMPT_STATES,
    FINAL_RUN_STATES,
    FINAL_STEP_STATES,
    AttemptState,
    RunState,
    StepState,
)
from agentflow.domain.transition import (
    ATTEMPT_TRANSITIONS,
    FREE_RETURNS,
    MAX_LOST,
    MAX_POSTPONED,
    MAX_RETURN_SECONDS,
    RUN_TRANSITIONS,
    STEP_TRANSITIONS,
    NeedsMet,
    NextStep,
    StepTally,
    StepTerms,
    after_attempt,
    after_needs,
    run_end,
)

REASONS = st.builds(Reason, st.sampled_from(ReasonCode))
OUTCOMES: st.SearchStrategy[AttemptOutcome] = st.one_of(
    st.builds(Succeeded),
    st.builds(Failed, REASONS, st.none() | st.integers(1, 130), is_permanent=st.booleans()),
    st.builds(TimedOut, REASONS),
    st.builds(Cancelled, REASONS),
    st.builds(Released, REASONS, st.booleans()),
    st.builds(Lost, REASONS, st.floats(0, 60)),
)
POLICIES = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 4),
    on_exit_codes=st.sets(st.integers(1, 130), max_size=3).map(tuple),
    on_timeout=st.booleans(),
    retries_everything=st.booleans(),
)
TERMS = st.builds(
    StepTerms,
    POLICIES,
    st.booleans(),
    st.integers(0, 4),
    st.integers(0, MAX_LOST - 1),
    st.booleans(),
)
OPEN_RUNS = st.sampled_from([RunState.RUNNING, RunState.FAILING, RunState.CANCELLING])
FRACTIONS = st.floats(min_value=0, max_value=1, exclude_max=True)
EXIT = Failed(Reason(ReasonCode.EXIT_CODE, {"exit_code": 75}), exit_code=75)
DRAINED = Reason(ReasonCode.DRAINED)
LOST = Reason(ReasonCode.WORKER_LOST, {"worker": "w"})


def test_only_a_retry_and_a_rejected_gate_lead_out_of_a_final_state() -> None:
    for transitions, finals, leading in (
        (RUN_TRANSITIONS, FINAL_RUN_STATES, {"retry"}),
        (STEP_TRANSITIONS, FINAL_STEP_STATES, {"retry", "decide"}),
    ):
        for (old, _), verbs in transitions.items():
            assert old not in finals or verbs <= leading
    assert not any(old in FINAL_ATTEMPT_STATES for old, _ in ATTEMPT_TRANSITIONS)


def test_what_is_taken_up_after_its_success_starts_over() -> None:
    again = {new for old, new in STEP_TRANSITIONS if old is StepState.SUCCEEDED}
    assert again == {StepState.READY, StepState.PENDING, StepState.HELD}
    assert not any(old is RunState.COMPLETED for old, _ in RUN_TRANSITIONS)


def test_a_provider_that_postpones_for_ever_is_an_outage_in_the_end() -> None:
    postponed = Released(Reason(ReasonCode.CALL_POSTPONED, {"what": "was refused", "seconds": 1}), delay_seconds=1)
    patient, tired = (
        StepTerms(DEFAULT_RETRY, postponed=MAX_POSTPONED - 1),
        StepTerms(DEFAULT_RETRY, postponed=MAX_POSTPONED),
    )

    assert after_attempt(postponed, patient, RunState.RUNNING, 0.5).delay_seconds == 1
    then = after_attempt(postponed, tired, RunState.RUNNING, 0.5)
    assert (then.state, then.counts_as_failure) == (StepState.RETRYING, True)


def test_a_provider_that_asks_for_no_wait_is_not_asked_in_a_busy_loop() -> None:
    postponed = Released(Reason(ReasonCode.CALL_POSTPONED, {"what": "was refused", "seconds": 0}))

    then = after_attempt(postponed, StepTerms(DEFAULT_RETRY), RunState.RUNNING, 0.5)

    assert then.delay_seconds >= 0.5
    assert then.counts_as_postponed


def test_every_state_is_reached_and_no_move_stands_still() -> None:
    for transitions, states, first in (
        (RUN_TRANSITIONS, RunState, RunState.PENDING),
        (STEP_TRANSITIONS, StepState, StepState.PENDING),
        (ATTEMPT_TRANSITIONS, AttemptState, AttemptState.RUNNING),
    ):
        assert {new for _, new in transitions} | {first} == set(states)
        assert all(old is not new and verbs for (old, new), verbs in transitions.items())


@given(OUTCOMES, TERMS, OPEN_RUNS, FRACTIONS)
def test_every_decision_after_an_attempt_is_a_legal_move(
    outcome: AttemptOutcome, terms: StepTerms, run_state: RunState, fraction: float
) -> None:
    then = after_attempt(outcome, terms, run_state, fraction)

    verb = "rescue" if isinstance(outcome, Lost) else "settle"
    assert verb in STEP_TRANSITIONS[StepState.RUNNING, then.state]
    assert verb in ATTEMPT_TRANSITIONS[AttemptState.RUNNING, ATTEMPT_STATES[type(outcome)]]
    assert then.delay_seconds >= 0


@given(OUTCOMES, TERMS, st.sampled_from([RunState.FAILING, RunState.CANCELLING]), FRACTIONS)
def test_an_ending_run_takes_no_step_back(
    outcome: AttemptOutcome, terms: StepTerms, run_state: RunState, fraction: float
) -> None:
    assert after_attempt(outcome, terms, run_state, fraction).state in FINAL_STEP_STATES


@given(OUTCOMES, POLICIES, st.booleans(), FRACTIONS)
def test_a_step_that_was_asked_to_stop_is_not_taken_up_again(
    outcome: AttemptOutcome, policy: RetryPolicy, holds: bool, fraction: float
) -> None:
    terms = StepTerms(policy, holds, is_stop_requested=True)
    assert after_attempt(outcome, terms, RunState.RUNNING, fraction).state in FINAL_STEP_STATES


@given(OUTCOMES, TERMS, FRACTIONS)
def test_a_step_is_never_attempted_more_often_than_its_policy_says(
    outcome: AttemptOutcome, terms: StepTerms, fraction: float
) -> None:
    then = after_attempt(outcome, terms, RunState.RUNNING, fraction)
    if then.state is StepState.RETRYING:
        assert then.counts_as_failure
        assert terms.failures + 1 < terms.retry.max_attempts


@given(st.sampled_from([Released(DRAINED), Released(DRAINED, was_started=True)]), TERMS, OPEN_RUNS)
def test_what_is_given_back_counts_against_nothing(outcome: Released, terms: StepTerms, run_state: RunState) -> None:
    then = after_attempt(outcome, terms, run_state, 0.5)
    assert not then.counts_as_failure
    assert not then.counts_as_loss
    assert then.state is not StepState.FAILED


@pytest.mark.parametrize(
    "outcome",
    [
        Released(DRAINED),
        Released(Reason(ReasonCode.SERVERS_AWAY), was_started=True),
        Lost(LOST, company=Company(is_stopping=True)),
    ],
    ids=["drained", "servers away", "lost while its worker stopped"],
)
def test_what_comes_back_again_and_again_waits_longer_up_to_a_minute(outcome: AttemptOutcome) -> None:
    thens = [
        after_attempt(outcome, StepTerms(DEFAULT_RETRY, returns=returns), RunState.RUNNING, 0.5)
        for returns in (*range(FREE_RETURNS + 10), 10_000)
    ]
    delays = [then.delay_seconds for then in thens]
    assert {then.state for then in thens} == {StepState.READY}
    assert delays[:FREE_RETURNS] == [0.0] * FREE_RETURNS
    assert delays == sorted(delays)
    assert 0 < delays[FREE_RETURNS] < 5
    assert delays[-1] == MAX_RETURN_SECONDS


@pytest.mark.parametrize("code", [ReasonCode.PAUSED, ReasonCode.BUDGET_EXHAUSTED, ReasonCode.RATE_LIMITED])
def test_what_rests_or_waits_for_a_limit_comes_back_without_more_delay(code: ReasonCode) -> None:
    released = Released(Reason(code), delay_seconds=3)
    then = after_attempt(released, StepTerms(DEFAULT_RETRY, returns=50), RunState.RUNNING, 0.5)
    assert (then.state, then.delay_seconds) == (StepState.READY, 3)


def test_the_first_delays_are_seven_and_fourteen_tenths_of_a_second() -> None:
    delays = [
        after_attempt(EXIT, StepTerms(DEFAULT_RETRY, failures=done), RunState.RUNNING, 0.5).delay_seconds
        for done in (0, 1)
    ]
    assert delays == pytest.approx([0.7, 1.4])


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (EXIT, StepState.RETRYING),
        (Failed(EXIT.reason, exit_code=1), StepState.FAILED),
        (Failed(EXIT.reason, exit_code=75, is_permanent=True), StepState.FAILED),
        (Failed(EXIT.reason, exit_code=1, message="HTTP 429: Rate limit hit"), StepState.RETRYING),
        (TimedOut(EXIT.reason), StepState.RETRYING),
    ],
)
def test_the_default_policy_retries_what_it_lists(outcome: AttemptOutcome, state: StepState) -> None:
    assert after_attempt(outcome, StepTerms(DEFAULT_RETRY), RunState.RUNNING, 0.5).state is state


def test_a_step_that_loses_its_worker_again_and_again_is_poisoned() -> None:
    then = [
        after_attempt(Lost(LOST), StepTerms(DEFAULT_RETRY, losses=done), RunState.RUNNING, 0.5)
        for done in range(MAX_LOST)
    ]
    assert [each.state for each in then] == [StepState.READY] * (MAX_LOST - 1) + [StepState.FAILED]
    assert then[-1].reason == Reason(ReasonCode.POISONED, {"lost": MAX_LOST})


def test_a_lost_step_waits_until_its_command_must_be_gone() -> None:
    then = after_attempt(Lost(LOST, ending_seconds=5), StepTerms(DEFAULT_RETRY), RunState.RUNNING, 0.5)
    assert (then.state, then.delay_seconds) == (StepState.READY, 5)


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (Lost(LOST), StepState.HELD),
        (Released(DRAINED, was_started=True), StepState.HELD),
        (Released(DRAINED), StepState.READY),
    ],
)
def test_a_step_that_must_not_start_twice_is_held_once_it_was_broken_off(
    outcome: AttemptOutcome, state: StepState
) -> None:
    then = after_attempt(outcome, StepTerms(DEFAULT_RETRY, holds_when_lost=True), RunState.RUNNING, 0.5)
    assert then.state is state
    assert (then.reason is not None and then.reason.code is ReasonCode.AWAITS_PERSON) == (state is StepState.HELD)


NEEDS = st.builds(NeedsMet, failed=st.integers(0, 3), skipped=st.integers(0, 3), cancelled=st.integers(0, 3))


@given(NEEDS)
def test_always_starts_whatever_happened(needs: NeedsMet) -> None:
    assert after_needs("always", needs) == NextStep(StepState.READY)


@given(NEEDS)
def test_succeeded_starts_only_when_every_need_succeeded(needs: NeedsMet) -> None:
    then = after_needs("succeeded", needs)
    assert then is not None
    assert (then.state is StepState.READY) == (needs == NeedsMet())


@given(NEEDS)
def test_failed_starts_once_a_need_failed(needs: NeedsMet) -> None:
    then = after_needs("failed", needs)
    assert then is not None
    assert (then.state is StepState.READY) == (needs.failed > 0)


@given(NEEDS)
def test_an_expression_is_asked_unless_a_need_was_skipped_or_cancelled(needs: NeedsMet) -> None:
    then = after_needs("steps.a.exit_code == 3", needs)
    assert (then is None) == (not needs.skipped and not needs.cancelled)
    assert then is None or then.state is StepState.SKIPPED


TALLIES = st.builds(StepTally, *[st.integers(0, 2)] * 6)


@given(st.sampled_from([RunState.RUNNING, RunState.FAILING, RunState.CANCELLING]), TALLIES)
def test_every_end_of_a_run_is_a_legal_move(state: RunState, tally: StepTally) -> None:
    assert "finalize" in RUN_TRANSITIONS[state, run_end(state, tally)]


@pytest.mark.parametrize(
    ("tally", "end"),
    [
        (StepTally(succeeded=2), RunState.COMPLETED),
        (StepTally(succeeded=1, skipped=1), RunState.COMPLETED),
        (StepTally(succeeded=1, failed=1), RunState.PARTIAL),
        (StepTally(succeeded=1, failed=1, stopping=1), RunState.FAILED),
        (StepTally(succeeded=1, skipped=1, broken_conditions=1), RunState.PARTIAL),
        (StepTally(succeeded=1, cancelled=1), RunState.PARTIAL),
        (StepTally(failed=1), RunState.FAILED),
        (StepTally(cancelled=1), RunState.FAILED),
    ],
)
def test_a_run_ends_as_its_steps_did(tally: StepTally, end: RunState) -> None:
    assert run_end(RunState.RUNNING, tally) is end
