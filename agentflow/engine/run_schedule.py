"""Run schedule: fire a schedule now, whether it is due or not, also one that is stopped.

Its overlap holds: what it promises of two runs at once is not taken back by hand. Where nothing is in the way the run
is submitted at once, without a beat; what is in the way for now, such as a content store that is away, is left to beat.
"""

from __future__ import annotations

from datetime import timedelta

from agentflow.domain.error import AgentflowError, InvalidTransition
from agentflow.domain.overlap import ActiveRun
from agentflow.domain.schedule import Overlap
from agentflow.engine.context import EngineContext
from agentflow.engine.enable_schedule import missing_schedule
from agentflow.engine.fire import take_up
from agentflow.engine.record import record_outside
from agentflow.storage import installations, schedules
from agentflow.storage.database import ConflictingWrite, UnwritableValue
from agentflow.storage.schedules import FiringView, Schedule
from agentflow.telemetry import get_logger

log = get_logger(__name__)

_STARTS = 20


def run_schedule(context: EngineContext, project: str, name: str, actor: str) -> FiringView:
    """Fire a schedule now; returns the firing as it stands then.

    InvalidTransition when a run of it has not ended and its overlap is skip.
    """
    with context.database.transaction() as tx:
        house = installations.lock(tx)
        schedule = schedules.lock(tx, project, name)
        if schedule is None:
            raise missing_schedule(project, name)
        active = schedules.read_active_runs(tx, schedule.id)
        if active and schedule.overlap is Overlap.SKIP:
            raise _overlapping(schedule, active[0])
        if not schedules.insert_firing(tx, schedule, house.at):
            raise InvalidTransition(f"The schedule {name} is due at this very moment: it fires by itself", name=name)
        facts, subject = {"due_at": house.at.isoformat()}, schedule.subject
        record_outside(context, tx, house, actor=actor, action="run_schedule", subject=subject, facts=facts)
    try:
        take_up(context, schedule.id, _STARTS)
    except (AgentflowError, ConflictingWrite, UnwritableValue) as error:  # it has fired: beat goes on with it
        log.warning("firing_left_to_beat", schedule=schedule.subject, error=type(error).__name__)
    with context.database.transaction() as tx:
        fired = schedules.view_firings(tx, schedule.id, 1, before=house.at + timedelta(microseconds=1))
    if not fired:
        raise missing_schedule(project, name)
    return fired[0]


def _overlapping(schedule: Schedule, active: ActiveRun) -> InvalidTransition:
    short = str(active.run_id)[:8]
    return InvalidTransition(
        f"Run {short} of the schedule {schedule.name} is {active.state}, and its overlap is skip. Wait for it "
        f"(`agentflow wait {short}`), or end it (`agentflow cancel {short}`).",
        run=str(active.run_id),
        state=active.state,
    )
