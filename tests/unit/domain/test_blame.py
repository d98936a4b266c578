"""Who is blamed for a lost worker: the step that was alone, or the one suspect among those that went with it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.domain.blame import MAX_JOINT, SUSPECTED_FROM, Blame, Company, blame, is_suspect
from agentflow.domain.outcome import Lost
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.retry_policy import DEFAULT_RETRY
from agentflow.domain.state import RunState, StepState
from agentflow.domain.transition import StepTerms, after_attempt

LOST = Reason(ReasonCode.WORKER_LOST, {"worker": "w"})
COUNTS = st.integers(0, MAX_JOINT + 2)


@given(COUNTS)
def test_who_is_lost_alone_is_to_blame(joint_losses: int) -> None:
    assert blame(Company(), joint_losses) is Blame.STEP


@given(COUNTS, st.integers(0, 50), st.integers(0, 5))
def test_a_worker_that_is_being_stopped_is_laid_to_nobody(joint_losses: int, others: int, suspects: int) -> None:
    assert blame(Company(others, suspects, is_stopping=True), joint_losses) is Blame.NOBODY


@given(COUNTS.filter(lambda count: count < MAX_JOINT), st.integers(1, 50))
def test_of_several_only_a_suspect_is_to_blame(joint_losses: int, others: int) -> None:
    assert blame(Company(others), joint_losses) is (Blame.STEP if is_suspect(joint_losses) else Blame.COMPANY)


def test_whoever_is_lost_with_a_suspect_is_counted_in_nothing() -> None:
    assert blame(Company(3, suspects=1), 0) is Blame.NOBODY


def test_two_suspects_cannot_be_told_apart_but_not_for_ever() -> None:
    assert blame(Company(3, suspects=1), SUSPECTED_FROM) is Blame.COMPANY
    assert blame(Company(3, suspects=1), MAX_JOINT) is Blame.STEP


@pytest.mark.parametrize(
    ("company", "counts"),
    [(Company(), (True, False)), (Company(2), (False, True)), (Company(2, 1), (False, False))],
    ids=["alone", "in company", "with a suspect"],
)
def test_a_loss_counts_once_as_what_it_is(company: Company, counts: tuple[bool, bool]) -> None:
    then = after_attempt(Lost(LOST, 0, company), StepTerms(DEFAULT_RETRY, losses=1), RunState.RUNNING, 0.5)

    assert (then.counts_as_loss, then.counts_as_joint_loss) == counts
    assert then.state is StepState.READY


@pytest.mark.parametrize("max_lost", [1, 2, 5])
def test_the_settings_say_how_many_losses_poison(max_lost: int) -> None:
    def after(losses: int) -> StepState:
        terms = StepTerms(DEFAULT_RETRY, losses=losses, max_lost=max_lost)
        return after_attempt(Lost(LOST), terms, RunState.RUNNING, 0.5).state

    assert [after(losses) for losses in range(max_lost)] == [StepState.READY] * (max_lost - 1) + [StepState.FAILED]


def test_who_is_not_to_blame_is_not_poisoned_at_the_brink() -> None:
    terms = StepTerms(DEFAULT_RETRY, losses=2)
    assert after_attempt(Lost(LOST, 0, Company(4)), terms, RunState.RUNNING, 0.5).state is StepState.READY
