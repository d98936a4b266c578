"""What becomes of firings while runs of their schedule have not ended."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from agentflow.domain.ids import RunId
from agentflow.domain.overlap import ActiveRun, Decision, OpenFiring, decide_overlap
from agentflow.domain.schedule import FiringCause, FiringState, Overlap

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
RUN = RunId(UUID(int=7))
RUNNING = ActiveRun(RUN, "running", FiringCause.SCHEDULED)
RESTING = ActiveRun(RUN, "paused", FiringCause.SCHEDULED, is_resting=True)
FILLING = ActiveRun(RUN, "running", FiringCause.BACKFILL)


def _firings(states: str, cause: FiringCause = FiringCause.SCHEDULED) -> list[OpenFiring]:
    """A firing for each letter, a minute apart: d is due, q is queued."""
    known = {"d": FiringState.DUE, "q": FiringState.QUEUED}
    return [OpenFiring(NOON + timedelta(minutes=at), cause, known[letter]) for at, letter in enumerate(states)]


def _moves(decision: Decision) -> dict[int, str]:
    """The new state of each firing that moves, by its minute, with the code of its reason."""
    return {
        int((move.due_at - NOON).total_seconds() // 60): move.state.value
        + (f" {move.reason.code}" if move.reason else "")
        for move in decision.moves
    }


@pytest.mark.parametrize(
    ("overlap", "states", "active", "expected"),
    [
        (Overlap.SKIP, "d", [], {0: "starting"}),
        (Overlap.SKIP, "d", [RUNNING], {0: "skipped overlaps"}),
        (Overlap.SKIP, "ddd", [], {0: "skipped superseded", 1: "skipped superseded", 2: "starting"}),
        (Overlap.SKIP, "dd", [RUNNING], {0: "skipped overlaps", 1: "skipped overlaps"}),
        (Overlap.SKIP, "d", [FILLING], {0: "queued"}),
        (Overlap.SKIP, "qd", [FILLING], {0: "skipped superseded", 1: "queued"}),
        (Overlap.SKIP, "q", [FILLING], {}),
        (Overlap.SKIP, "q", [], {0: "starting"}),
        (Overlap.SKIP, "qd", [FILLING, RUNNING], {0: "skipped overlaps", 1: "skipped overlaps"}),
        (Overlap.QUEUE, "d", [], {0: "starting"}),
        (Overlap.QUEUE, "d", [RUNNING], {0: "queued"}),
        (Overlap.QUEUE, "qqd", [RUNNING], {2: "skipped overlaps"}),
        (Overlap.QUEUE, "qq", [RUNNING], {}),
        (Overlap.QUEUE, "qq", [], {0: "starting"}),
        (Overlap.QUEUE, "dddd", [], {0: "starting", 1: "queued", 2: "queued", 3: "skipped overlaps"}),
        (Overlap.CANCEL_PREVIOUS, "d", [], {0: "starting"}),
        (Overlap.CANCEL_PREVIOUS, "d", [RUNNING], {0: "queued"}),
        (Overlap.CANCEL_PREVIOUS, "qd", [RUNNING], {0: "skipped superseded", 1: "queued"}),
        (Overlap.CANCEL_PREVIOUS, "q", [RUNNING], {}),
        (Overlap.CANCEL_PREVIOUS, "q", [], {0: "starting"}),
        (Overlap.ALLOW, "dd", [RUNNING], {0: "starting", 1: "starting"}),
    ],
)
def test_an_overlap_decides_about_what_is_due(
    overlap: Overlap, states: str, active: list[ActiveRun], expected: dict[int, str]
) -> None:
    assert _moves(decide_overlap(overlap, 2, _firings(states), active)) == expected


def test_only_cancel_previous_cancels_and_each_run_once() -> None:
    for overlap in Overlap:
        expected = [RUN] if overlap is Overlap.CANCEL_PREVIOUS else []
        assert decide_overlap(overlap, 1, _firings("d"), [RUNNING]).cancels == expected
    cancelling = ActiveRun(RUN, "cancelling", FiringCause.SCHEDULED)
    assert decide_overlap(Overlap.CANCEL_PREVIOUS, 1, _firings("q"), [cancelling]).cancels == []


def test_a_run_that_is_being_submitted_is_waited_for() -> None:
    starting = ActiveRun(None, "starting", FiringCause.SCHEDULED)
    decision = decide_overlap(Overlap.CANCEL_PREVIOUS, 1, _firings("d"), [starting])
    assert (_moves(decision), decision.cancels) == ({0: "queued"}, [])
    assert _moves(decide_overlap(Overlap.SKIP, 1, _firings("d"), [starting])) == {0: "skipped overlaps"}


@pytest.mark.parametrize("overlap", [Overlap.SKIP, Overlap.QUEUE])
def test_a_resting_run_holds_a_schedule_up(overlap: Overlap) -> None:
    assert decide_overlap(overlap, 1, _firings("d"), [RESTING]).held_by is RESTING
    assert decide_overlap(overlap, 1, _firings("d"), [RUNNING]).held_by is None
    assert decide_overlap(overlap, 1, [], [RESTING]).held_by is None


def test_a_resting_run_that_is_cancelled_or_ignored_holds_nothing_up() -> None:
    assert decide_overlap(Overlap.CANCEL_PREVIOUS, 1, _firings("d"), [RESTING]).held_by is None
    assert decide_overlap(Overlap.ALLOW, 1, _firings("d"), [RESTING]).held_by is None


@pytest.mark.parametrize("overlap", [Overlap.SKIP, Overlap.QUEUE, Overlap.CANCEL_PREVIOUS])
def test_a_backfill_starts_one_after_the_other_and_behind_what_is_due(overlap: Overlap) -> None:
    fills = _firings("qqq", FiringCause.BACKFILL)
    assert _moves(decide_overlap(overlap, 1, fills, [])) == {0: "starting"}
    assert _moves(decide_overlap(overlap, 1, fills, [RUNNING])) == {}
    for state in (FiringState.DUE, FiringState.QUEUED):
        due = [OpenFiring(NOON + timedelta(minutes=9), FiringCause.SCHEDULED, state)]
        assert _moves(decide_overlap(overlap, 1, fills + due, [])) == {9: "starting"}


def test_a_backfill_counts_for_no_queue_and_its_run_is_not_cancelled() -> None:
    fills = _firings("qqq", FiringCause.BACKFILL)
    due = [OpenFiring(NOON + timedelta(minutes=9), FiringCause.SCHEDULED, FiringState.DUE)]
    assert _moves(decide_overlap(Overlap.QUEUE, 1, fills + due, [FILLING])) == {9: "queued"}
    decision = decide_overlap(Overlap.CANCEL_PREVIOUS, 1, fills + due, [FILLING])
    assert (_moves(decision), decision.cancels) == ({9: "queued"}, [])
    assert set(_moves(decide_overlap(Overlap.ALLOW, 1, fills, [FILLING])).values()) == {"starting"}
