"""Replace schedule: put what is asked for in the place of a schedule, or keep it as a new one.

It stays the same schedule, with its firings and runs. What is not changed goes on: a due time that beat is yet to note
is lost only where the times change. The new ones begin from now, and what waits for the old ones is skipped; what a
person asked for, by run-now or a backfill, stays, and runs as the schedule says then.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from agentflow.domain.overlap import Move
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.schedule import FiringCause, FiringState, IntervalTiming, Pace
from agentflow.engine.context import EngineContext
from agentflow.engine.create_schedule import ScheduleRequest, add_schedule, schedule_facts
from agentflow.engine.record import record_outside
from agentflow.storage import installations, schedules
from agentflow.storage.schedules import Schedule

TIMES = frozenset({"timing", "time_zone"})


@dataclass(frozen=True, slots=True)
class Replaced:
    """What replacing did: which fields it changed, none where all was so already, and how many firings it skipped."""

    is_new: bool
    changed: tuple[str, ...] = ()
    skipped: int = 0


def replace_schedule(context: EngineContext, request: ScheduleRequest, wanted: Schedule) -> Replaced:
    """Keep a schedule that was examined, in the place of that of its name where there is one."""
    actor = request.actor
    with context.database.transaction() as tx:
        house = installations.lock(tx)
        old = schedules.lock(tx, wanted.project, wanted.name)
        if old is None:
            add_schedule(context, tx, house, wanted, actor)
            return Replaced(is_new=True)
        new = _succeeding(old, wanted, is_start_given=request.written.start is not None)
        changed = tuple(_changes(old, new))
        if not changed:
            return Replaced(is_new=False)
        schedules.replace(tx, new)
        reason = Reason(ReasonCode.REPLACED, {"actor": actor})
        is_stopped = old.is_enabled and not new.is_enabled
        moves = [
            Move(each.due_at, FiringState.SKIPPED, reason)
            for each in schedules.read_open_firings(tx, old.id)
            if is_stopped or (TIMES & {*changed} and each.cause is FiringCause.SCHEDULED)
        ]
        skipped = len(schedules.move_firings(tx, old.id, moves))
        facts = {**schedule_facts(new), "changed": list(changed), "skipped": skipped}
        record_outside(context, tx, house, actor=actor, action="replace_schedule", subject=new.subject, facts=facts)
    return Replaced(is_new=False, changed=changed, skipped=skipped)


def _succeeding(old: Schedule, wanted: Schedule, *, is_start_given: bool) -> Schedule:
    """Return what is wanted as the schedule that there is, with the next due time that it has from now on."""
    timing = wanted.timing
    match old.timing, timing:
        case (IntervalTiming(seconds=before), IntervalTiming(seconds=after)) if before == after and not is_start_given:
            timing = old.timing  # "from now on" was said when it was made
    pace = Pace(old.id, wanted.pace.jitter_seconds, wanted.pace.catch_up_seconds)
    new = replace(wanted, id=old.id, timing=timing, pace=pace, created_by=old.created_by, held_since=old.held_since)
    is_begun_anew = bool(TIMES & {*_changes(old, new)}) or (new.is_enabled and not old.is_enabled)
    return replace(new, next_at=timing.next_after(old.at) if is_begun_anew else old.next_at)


def _changes(old: Schedule, new: Schedule) -> Iterator[str]:
    """Name what a schedule has another value of, as it is shown."""
    before, after = _shown(old), _shown(new)
    yield from (name for name, value in before.items() if after[name] != value)


def _shown(schedule: Schedule) -> dict[str, object]:
    return {
        "timing": (schedule.timing.kind, schedule.timing.as_json()),
        "time_zone": schedule.time_zone,
        "jitter_seconds": schedule.pace.jitter_seconds,
        "overlap": schedule.overlap,
        "queue_depth": schedule.max_queued,
        "catch_up_seconds": schedule.pace.catch_up_seconds,
        "plan": schedule.plan_name,
        "plan_version": schedule.plan_version,
        "vars": schedule.vars,
        "budget": schedule.budget,
        "directive": schedule.directive,
        "is_enabled": schedule.is_enabled,
    }
