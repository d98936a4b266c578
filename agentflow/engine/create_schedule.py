"""Create schedule: keep when a stored plan runs by itself.

Everything that could be wrong is looked for before anything is written, and told at once. The plan is opened anew for
each firing: without a version it is the newest one then.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

from sqlalchemy import Connection

from agentflow.domain.budget import Budget
from agentflow.domain.budget_document import read_given_budget
from agentflow.domain.error import NotFound, UsageError
from agentflow.domain.fault import Fault
from agentflow.domain.schedule import Pace
from agentflow.domain.schedule_document import ReadSchedule, WrittenSchedule, read_schedule
from agentflow.engine.context import EngineContext
from agentflow.engine.fire import examine_firing
from agentflow.engine.record import record_outside
from agentflow.engine.stored_plans import open_stored
from agentflow.storage import balances, installations, schedules
from agentflow.storage.installations import LockedInstallation
from agentflow.storage.schedules import Schedule


@dataclass(frozen=True, slots=True)
class ScheduleRequest:
    """What a person asks for. ``vars`` are those that are given, ``budget`` is written as in a plan."""

    written: WrittenSchedule
    project: str
    plan_name: str
    plan_version: int | None
    vars: Mapping[str, Any]
    actor: str
    budget: Mapping[str, Any] | None = None
    directive: str | None = None
    is_enabled: bool = True


def examine_schedule(context: EngineContext, request: ScheduleRequest) -> Schedule:
    """Return the schedule as it would be kept; nothing is written. UsageError with every fault of it."""
    with context.database.transaction() as tx:
        now = balances.read_now(tx)
    read, faults = read_schedule(request.written, now)
    budget, cap_faults = (None, ()) if request.budget is None else read_given_budget(dict(request.budget))
    schedule = None if read is None else _made(request, read, budget, now)
    found = [*faults, *cap_faults, *_plan_faults(context, request, budget, schedule, now)]
    if schedule is None or found:
        raise rejected(request.written.name, found)
    return schedule


def create_schedule(context: EngineContext, schedule: Schedule, actor: str) -> None:
    """Keep a schedule that was examined. UsageError when the project has one of its name."""
    with context.database.transaction() as tx:
        add_schedule(context, tx, installations.lock(tx), schedule, actor)


def add_schedule(
    context: EngineContext, tx: Connection, house: LockedInstallation, schedule: Schedule, actor: str
) -> None:
    """Keep a new schedule within a transaction. UsageError when the project has one of its name."""
    if not schedules.insert(tx, schedule):
        raise UsageError(
            f"There is a schedule {schedule.name} in project {schedule.project} already; replace it, or choose "
            "another name.",
            name=schedule.name,
            project=schedule.project,
        )
    subject, facts = schedule.subject, schedule_facts(schedule)
    record_outside(context, tx, house, actor=actor, action="create_schedule", subject=subject, facts=facts)


def schedule_facts(schedule: Schedule) -> dict[str, Any]:
    """Return what the audit says of a schedule; values of vars are left out."""
    return {
        "kind": schedule.timing.kind.value,
        **schedule.timing.as_json(),
        "time_zone": schedule.time_zone,
        "overlap": schedule.overlap.value,
        "plan": schedule.plan_name,
        "version": schedule.plan_version,
        "is_enabled": schedule.is_enabled,
    }


def rejected(name: str, faults: Iterable[Fault]) -> UsageError:
    """Return the error that tells all faults of a schedule, by the option or field that each stands in."""
    listed = [{"field": _field(fault), "code": fault.code, "message": fault.message} for fault in faults]
    lines = "\n".join(f"  {each['field']}: {each['message']}" for each in listed)
    return UsageError(f"The schedule {name!r} cannot be kept:\n{lines}", problems=listed)


def _field(fault: Fault) -> str:
    return ".".join(str(part) for part in fault.path) or "plan"


def _what_to_do(missing: NotFound) -> str:
    """What is missing, and what to do: a plan is pushed, and of one that is there another version is named."""
    told = str(missing).rstrip(".")
    if missing.details.get("versions"):
        return f"{told}. Name one of these, or none for the newest"
    return f"{told}. Push it first: agentflow plan push FILE"


def _made(request: ScheduleRequest, read: ReadSchedule, budget: Budget | None, now: datetime) -> Schedule:
    schedule_id = uuid4()
    return Schedule(
        id=schedule_id,
        project=request.project,
        name=read.name,
        timing=read.timing,
        time_zone=read.time_zone,
        pace=Pace(schedule_id, read.jitter_seconds, read.catch_up_seconds),
        overlap=read.overlap,
        max_queued=read.max_queued,
        plan_name=request.plan_name,
        plan_version=request.plan_version,
        vars=request.vars,
        budget=budget,
        directive=request.directive,
        is_enabled=request.is_enabled,
        next_at=read.timing.next_after(now),
        created_by=request.actor,
        at=now,
    )


def _plan_faults(
    context: EngineContext, request: ScheduleRequest, budget: Budget | None, schedule: Schedule | None, now: datetime
) -> Iterable[Fault]:
    """Find what is wrong with the plan, its vars and its costs, as far as the rest of the schedule lets it be known."""
    try:
        stored = open_stored(context, request.project, request.plan_name, request.plan_version)
    except NotFound as missing:
        return (Fault("plan_missing", _what_to_do(missing), ("plan",)),)
    zone = "UTC" if schedule is None else schedule.time_zone
    return examine_firing(
        context, stored, request.vars, now, zone, project=request.project, budget=budget, directive=request.directive
    )
