"""Enable schedule: stop a schedule, and let it go on.

What waits when it is stopped is skipped; runs that have begun go on. What falls due meanwhile is not caught up with: a
person stopped it, nothing was missed.
"""

from __future__ import annotations

from agentflow.domain.error import NotFound
from agentflow.domain.overlap import Move
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.schedule import FiringState
from agentflow.engine.context import EngineContext
from agentflow.engine.record import record_outside
from agentflow.storage import installations, schedules


def pause_schedule(context: EngineContext, project: str, name: str, actor: str) -> int | None:
    """Stop a schedule; returns how many waiting firings were skipped, None when it was stopped already."""
    with context.database.transaction() as tx:
        house = installations.lock(tx)
        schedule = schedules.lock(tx, project, name)
        if schedule is None:
            raise missing_schedule(project, name)
        if not schedules.enable(tx, schedule, schedule.next_at, is_enabled=False):
            return None
        reason = Reason(ReasonCode.PAUSED, {"actor": actor})
        waiting = schedules.read_open_firings(tx, schedule.id)
        moves = [Move(each.due_at, FiringState.SKIPPED, reason) for each in waiting]
        skipped = len(schedules.move_firings(tx, schedule.id, moves))
        facts, subject = {"skipped": skipped}, schedule.subject
        record_outside(context, tx, house, actor=actor, action="pause_schedule", subject=subject, facts=facts)
    return skipped


def resume_schedule(context: EngineContext, project: str, name: str, actor: str) -> bool:
    """Let a schedule fire from its next due time on; False when it does already."""
    with context.database.transaction() as tx:
        house = installations.lock(tx)
        schedule = schedules.lock(tx, project, name)
        if schedule is None:
            raise missing_schedule(project, name)
        if not schedules.enable(tx, schedule, schedule.timing.next_after(schedule.at), is_enabled=True):
            return False
        record_outside(context, tx, house, actor=actor, action="resume_schedule", subject=schedule.subject)
    return True


def missing_schedule(project: str, name: str) -> NotFound:
    """Return the error for a schedule that is not there."""
    return NotFound(
        f"There is no schedule {name} in project {project}; see `agentflow schedule list`.", project=project, name=name
    )
