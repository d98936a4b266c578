"""Backfill: fire the due times of a stretch of the past that have no run, one after the other, the oldest first.

They wait until no other run of the schedule is active, whatever its overlap, unless that allows all. What was missed,
skipped or refused then gets its run after all; what has one, or waits for one, keeps it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice

from agentflow.domain.error import UsageError
from agentflow.domain.schedule import due_times
from agentflow.engine.context import EngineContext
from agentflow.engine.enable_schedule import missing_schedule
from agentflow.engine.record import record_outside
from agentflow.storage import installations, schedules
from agentflow.storage.schedules import Schedule
from agentflow.storage.view_shapes import moment

MOST_BACKFILLED = 1000


@dataclass(frozen=True, slots=True)
class Backfilled:
    """The due times that were queued (or would be), and those that have a run or wait for one already."""

    queued: tuple[datetime, ...]
    existing: tuple[datetime, ...]
    is_dry: bool


def backfill(
    context: EngineContext, project: str, name: str, since: datetime, until: datetime, actor: str, *, is_dry: bool
) -> Backfilled:
    """Queue the due times from ``since`` to ``until``, both included; with ``is_dry`` only tell which those are.

    UsageError for a stretch that does not lie in the past, or holds more than MOST_BACKFILLED due times.
    """
    with context.database.transaction() as tx:
        house = installations.lock(tx)
        schedule = schedules.lock(tx, project, name)
        if schedule is None:
            raise missing_schedule(project, name)
        wanted = _wanted(schedule, since, until)
        existing = schedules.find_firings(tx, schedule.id, wanted)
        queued = [due for due in wanted if due not in existing]
        if not is_dry and queued:
            queued = schedules.queue_backfill(tx, schedule, queued)
            facts = {"from": since.isoformat(), "to": until.isoformat(), "firings": len(queued)}
            subject = schedule.subject
            record_outside(context, tx, house, actor=actor, action="backfill", subject=subject, facts=facts)
    return Backfilled(tuple(queued), tuple(sorted(existing)), is_dry)


def _wanted(schedule: Schedule, since: datetime, until: datetime) -> list[datetime]:
    if since > until:
        raise UsageError(
            f"A backfill goes from the earlier time to the later: {moment(since)} is after {moment(until)}."
        )
    if until > schedule.at:
        raise UsageError(f"A backfill ends in the past: {moment(until)} is yet to come.")
    found = due_times(schedule.timing, since - timedelta(microseconds=1), until)
    wanted = list(islice(found, MOST_BACKFILLED + 1))
    if len(wanted) > MOST_BACKFILLED:
        raise UsageError(
            f"More than {MOST_BACKFILLED} due times lie between {moment(since)} and {moment(until)}: take a shorter "
            "stretch."
        )
    return wanted
