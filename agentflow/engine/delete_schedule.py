"""Delete schedule: forget a schedule with its firings. Its runs stay, also those that have not ended."""

from __future__ import annotations

from agentflow.engine.context import EngineContext
from agentflow.engine.enable_schedule import missing_schedule
from agentflow.engine.record import record_outside
from agentflow.storage import installations, schedules


def delete_schedule(context: EngineContext, project: str, name: str, actor: str) -> None:
    """Forget a schedule. NotFound when there is none of that name."""
    with context.database.transaction() as tx:
        house = installations.lock(tx)
        schedule = schedules.lock(tx, project, name)
        if schedule is None:
            raise missing_schedule(project, name)
        schedules.delete(tx, schedule)
        facts = {"schedule_id": str(schedule.id), **schedule.timing.as_json()}
        record_outside(context, tx, house, actor=actor, action="delete_schedule", subject=schedule.subject, facts=facts)
