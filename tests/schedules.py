"""Schedules for tests: stored plans, schedules that are due when the test says so, and what became of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import text

from agentflow.domain.plan import Plan
from agentflow.domain.schedule_document import WrittenSchedule
from agentflow.engine.context import EngineContext
from agentflow.engine.create_schedule import ScheduleRequest, create_schedule, examine_schedule
from agentflow.engine.load_plan import LoadedPlan
from agentflow.engine.stored_plans import push_plan
from agentflow.storage.schedules import Schedule
from tests.factories import noop_step, planned

WAITING = {"id": "ask", "noop": {}, "on_lost": "hold"}


def pushed(context: EngineContext, steps: Sequence[Mapping[str, Any]] | None = None, **fields: Any) -> Plan:
    """Store a plan of these steps, or of one that does nothing."""
    plan, content = planned(steps or [noop_step("one")], **fields)
    push_plan(context, LoadedPlan(plan, content, {}, "tested"), "default", "tester@test")
    return plan


def request_of(name: str = "nightly", **fields: Any) -> ScheduleRequest:
    """Ask for a schedule; what is not written is every hour."""
    own = {
        key: fields.pop(key) for key in ("vars", "budget", "directive", "is_enabled", "plan_version") if key in fields
    }
    plan = fields.pop("plan", "tested")
    if not fields.keys() & {"cron", "every", "at"}:
        fields["every"] = "1h"
    own = {"vars": {}, "plan_version": None, **own}
    return ScheduleRequest(WrittenSchedule(name, **fields), "default", plan, actor="tester@test", **own)


def scheduled(context: EngineContext, name: str = "nightly", **fields: Any) -> Schedule:
    """Keep a schedule."""
    schedule = examine_schedule(context, request_of(name, **fields))
    create_schedule(context, schedule, "tester@test")
    return schedule


def set_due(context: EngineContext, schedule: Schedule, ago: timedelta = timedelta()) -> datetime:
    """Make a schedule due, with a due time that long ago; returns it."""
    statement = "UPDATE schedule SET next_at = now() - :ago, fire_at = now() - :ago WHERE id = :id RETURNING next_at"
    with context.database.transaction() as tx:
        due: datetime = tx.execute(text(statement), {"ago": ago, "id": schedule.id}).scalar_one()
    return due


def move_anchor(context: EngineContext, schedule: Schedule, ago: timedelta) -> datetime:
    """Let an interval have begun that long ago, with nothing fired since; returns its first due time."""
    statement = """
        UPDATE schedule SET next_at = now() - :ago, fire_at = now() - :ago,
               spec = spec || jsonb_build_object('anchor', to_jsonb(now() - :ago)) WHERE id = :id RETURNING next_at
    """
    with context.database.transaction() as tx:
        first: datetime = tx.execute(text(statement), {"ago": ago, "id": schedule.id}).scalar_one()
    return first


def firing_rows(context: EngineContext, schedule: Schedule) -> list[Any]:
    """The firings of a schedule in the order of their due times."""
    with context.database.transaction() as tx:
        statement = text("SELECT * FROM firing WHERE schedule_id = :id ORDER BY due_at")
        return list(tx.execute(statement, {"id": schedule.id}).all())


def states_of(context: EngineContext, schedule: Schedule) -> list[str]:
    """What became of the firings, in the order of their due times."""
    return [row.state for row in firing_rows(context, schedule)]


def schedule_row(context: EngineContext, schedule: Schedule) -> Any:
    """A schedule's row."""
    with context.database.transaction() as tx:
        return tx.execute(text("SELECT * FROM schedule WHERE id = :id"), {"id": schedule.id}).one()


def house_events(context: EngineContext, subject: str) -> list[str]:
    """The actions of the audit events about something outside of runs, in order."""
    statement = "SELECT action FROM audit_event WHERE run_id = :nil AND subject = :subject ORDER BY sequence"
    with context.database.transaction() as tx:
        return list(tx.execute(text(statement), {"nil": "0" * 32, "subject": subject}).scalars())
