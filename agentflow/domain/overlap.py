"""Overlap: what becomes of the open firings of a schedule, given which of its runs have not ended.

Owns the decision, as data: firings that move, runs that are cancelled, the resting run that holds all up. Who reads the
rows, locks them and acts on it is engine/fire.py's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from agentflow.domain.ids import RunId
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.schedule import FiringCause, FiringState, Overlap
from agentflow.domain.state import RunState


@dataclass(frozen=True, slots=True)
class OpenFiring:
    """A firing of which it is not decided yet whether it starts."""

    due_at: datetime
    cause: FiringCause
    state: FiringState


@dataclass(frozen=True, slots=True)
class ActiveRun:
    """A run of the schedule that has not ended; its id is not known while it is being submitted."""

    run_id: RunId | None
    state: str
    cause: FiringCause
    is_resting: bool = False


@dataclass(frozen=True, slots=True)
class Move:
    """A firing gets a state, and a reason where it does not start."""

    due_at: datetime
    state: FiringState
    reason: Reason | None = None


@dataclass(slots=True)
class Decision:
    """What is to be done. ``held_by`` is the resting run for which firings do not start."""

    moves: list[Move] = field(default_factory=list)
    cancels: list[RunId] = field(default_factory=list)
    held_by: ActiveRun | None = None


def decide_overlap(
    overlap: Overlap, max_queued: int, firings: Sequence[OpenFiring], active: Sequence[ActiveRun]
) -> Decision:
    """Decide about all open firings. Those of a backfill never overlap: they wait and start one after the other."""
    own = sorted((each for each in firings if each.cause is not FiringCause.BACKFILL), key=lambda each: each.due_at)
    fills = sorted((each for each in firings if each.cause is FiringCause.BACKFILL), key=lambda each: each.due_at)
    decision = Decision()
    match overlap:
        case Overlap.ALLOW:
            decision.moves = [_start(each) for each in (*own, *fills)]
            return decision
        case Overlap.SKIP:
            _skip(decision, own, active)
        case Overlap.QUEUE:
            _queue(decision, own, active, max_queued)
        case Overlap.CANCEL_PREVIOUS:
            _cancel_previous(decision, own, active)
    if fills and not active and not own:
        decision.moves.append(_start(fills[0]))
    resting = next((run for run in active if run.is_resting and run.run_id not in decision.cancels), None)
    decision.held_by = resting if firings else None
    return decision


def _skip(decision: Decision, own: Sequence[OpenFiring], active: Sequence[ActiveRun]) -> None:
    """Of several that are due together the latest starts: what it would find is what the others would have found.

    It waits for a backfill's run instead of being skipped, and goes before the next: a backfill takes nothing away.
    """
    own_run = next((run for run in active if run.cause is not FiringCause.BACKFILL), None)
    if own_run is not None:
        decision.moves = [Move(each.due_at, FiringState.SKIPPED, _overlaps(own_run)) for each in own]
        return
    decision.moves = _latest(own, must_wait=bool(active))


def _queue(decision: Decision, own: Sequence[OpenFiring], active: Sequence[ActiveRun], max_queued: int) -> None:
    waiting = list(own)
    if not active and waiting:
        decision.moves.append(_start(waiting.pop(0)))
    ahead = active[0] if active else ActiveRun(None, FiringState.STARTING, FiringCause.SCHEDULED)
    for place, each in enumerate(waiting, 1):
        if each.state is FiringState.QUEUED:
            continue
        is_room = place <= max_queued
        state, reason = (FiringState.QUEUED, None) if is_room else (FiringState.SKIPPED, _overlaps(ahead))
        decision.moves.append(Move(each.due_at, state, reason))


def _cancel_previous(decision: Decision, own: Sequence[OpenFiring], active: Sequence[ActiveRun]) -> None:
    """The latest starts, once all runs before it have really ended. A backfill's run is waited for."""
    decision.moves = _latest(own, must_wait=bool(active))
    if not own:
        return
    decision.cancels = [
        run.run_id
        for run in active
        if run.run_id is not None and run.cause is not FiringCause.BACKFILL and run.state != RunState.CANCELLING
    ]


def _latest(own: Sequence[OpenFiring], *, must_wait: bool) -> list[Move]:
    """The latest starts, or waits until it may; what is due before it makes way."""
    if not own:
        return []
    *older, latest = own
    moves = [_make_way(each, latest) for each in older]
    if not must_wait:
        return [*moves, _start(latest)]
    is_waiting = latest.state is FiringState.QUEUED
    return moves if is_waiting else [*moves, Move(latest.due_at, FiringState.QUEUED)]


def _start(firing: OpenFiring) -> Move:
    return Move(firing.due_at, FiringState.STARTING)


def _make_way(firing: OpenFiring, latest: OpenFiring) -> Move:
    reason = Reason(ReasonCode.SUPERSEDED, {"by": latest.due_at.isoformat()})
    return Move(firing.due_at, FiringState.SKIPPED, reason)


def _overlaps(active: ActiveRun) -> Reason:
    run = {"run": str(active.run_id)} if active.run_id is not None else {}
    return Reason(ReasonCode.OVERLAPS, {**run, "state": str(active.state)})
