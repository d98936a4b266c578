"""Fire: note what fell due of a schedule, decide about what overlaps, and submit what starts.

Each of the three is a transaction of its own and may be the last thing that its process does: the next one goes on from
the firing's row. A firing that is ``starting`` is decided for good, and the key of its submission is made from schedule
and due time, so that two processes which both submit it get one run.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from agentflow.domain.budget import Budget
from agentflow.domain.error import IdempotencyConflict, InvalidTransition, NotFound, PlanRejected
from agentflow.domain.fault import Fault
from agentflow.domain.ids import RunId
from agentflow.domain.overlap import ActiveRun, decide_overlap
from agentflow.domain.plan_check import check_available
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.schedule import FiringState, catch_up
from agentflow.domain.variable import resolve_vars
from agentflow.engine.cancel import cancel
from agentflow.engine.context import EngineContext
from agentflow.engine.record import record_outside
from agentflow.engine.stored_plans import StoredPlan, open_stored
from agentflow.engine.submit import SubmitRequest, submit
from agentflow.executors.base import known_actions
from agentflow.storage import installations, runs, schedules
from agentflow.storage.schedules import Schedule
from agentflow.telemetry import get_logger

log = get_logger(__name__)

DUE_VAR = "due_at"
"""A var of a plan that a firing fills, unless the schedule does: the nominal due time in the schedule's zone."""
PLAN_MISSING = "plan_missing"


def note_due(context: EngineContext, schedule_id: UUID) -> bool:
    """Note what fell due of a schedule, each due time once; False when nothing did, or another process has it."""
    with context.database.transaction() as tx:
        schedule = schedules.take(tx, schedule_id)
        if schedule is None or not schedule.is_enabled or schedule.next_at is None:
            return False
        caught = catch_up(schedule.timing, schedule.pace, schedule.next_at, schedule.at)
        if not (caught.fire or caught.missed):
            return False
        is_noted = schedules.note_firings(tx, schedule, caught, Reason(ReasonCode.CAUGHT_UP))
    if is_noted and caught.missed:
        log.warning("firings_missed", schedule=schedule.subject, firings=len(caught.missed))
    return is_noted


def take_up(context: EngineContext, schedule_id: UUID, most: int) -> int:
    """Decide about the open firings of a schedule and submit up to ``most`` that start; returns how many are left.

    Raises what a submit raises for which the firing is not to blame; it is taken up again then.
    """
    with context.database.transaction() as tx:
        schedule = schedules.take(tx, schedule_id)
        if schedule is None:
            return 0
        found = schedules.read_open_firings(tx, schedule_id)
        starting = [each for each in found if each.state is FiringState.STARTING]
        undecided = [each for each in found if each.state is not FiringState.STARTING]
        active = schedules.read_active_runs(tx, schedule_id)
        active += [ActiveRun(None, FiringState.STARTING, each.cause) for each in starting]
        decision = decide_overlap(schedule.overlap, schedule.max_queued, undecided, active)
        schedules.move_firings(tx, schedule_id, decision.moves)
    for run_id in decision.cancels:
        with suppress(InvalidTransition, NotFound):  # it has ended by now
            cancel(context, run_id, schedule.actor)
    if decision.held_by is not None and schedule.held_since is None:
        _tell_held(context, schedule, decision.held_by)
    due_ats = [each.due_at for each in starting]
    due_ats += [move.due_at for move in decision.moves if move.state is FiringState.STARTING]
    for due_at in due_ats[:most]:
        _start(context, schedule, due_at)
    return len(due_ats[most:])


def examine_firing(
    context: EngineContext,
    stored: StoredPlan,
    given: Mapping[str, Any],
    due_at: datetime,
    time_zone: str,
    *,
    project: str,
    budget: Budget | None,
    directive: str | None,
) -> tuple[Fault, ...]:
    """Find every fault for which a firing would be refused."""
    values, faults = _values(stored, given, due_at, time_zone)
    if faults:
        return faults
    request = _request(stored, values, project=project, actor="", key=None, budget=budget, directive=directive)
    return request.cost_faults(context.settings)


def _tell_held(context: EngineContext, schedule: Schedule, held_by: ActiveRun) -> None:
    """Raise the alert that a resting run holds a schedule up; once until it goes on."""
    with context.database.transaction() as tx:
        house = installations.lock(tx)
        if not schedules.hold(tx, schedule.id):
            return
        reason = Reason(ReasonCode.OVERLAPS, {"run": str(held_by.run_id), "state": held_by.state})
        subject, actor = schedule.subject, schedule.actor
        record_outside(context, tx, house, actor=actor, action="schedule_held", subject=subject, reason=reason)
    log.warning("schedule_held", schedule=schedule.subject, run_id=str(held_by.run_id), state=held_by.state)


def _start(context: EngineContext, schedule: Schedule, due_at: datetime) -> None:
    """Submit a firing, or find the run that it has already, and note the run."""
    key = f"schedule:{schedule.id}:{due_at.astimezone(UTC).isoformat()}"
    run_id = _find_run(context, schedule, key)
    if run_id is None:
        try:
            run_id = _submit(context, schedule, due_at, key)
        except PlanRejected as rejected:
            _refuse(context, schedule, due_at, rejected.faults[0].code)
            return
        except NotFound:
            _refuse(context, schedule, due_at, PLAN_MISSING)
            return
        except IdempotencyConflict:  # another process was quicker, with another version of the plan
            run_id = _find_run(context, schedule, key)
            if run_id is None:
                raise
    with context.database.transaction() as tx:
        schedules.note_run(tx, schedule.id, due_at, run_id)
    log.info("schedule_fired", schedule=schedule.subject, due_at=due_at.isoformat(), run_id=str(run_id))


def _find_run(context: EngineContext, schedule: Schedule, key: str) -> RunId | None:
    with context.database.transaction() as tx:
        existing = runs.find_by_key(tx, schedule.project, key)
    return None if existing is None else existing.run_id


def _submit(context: EngineContext, schedule: Schedule, due_at: datetime, key: str) -> RunId:
    stored = open_stored(context, schedule.project, schedule.plan_name, schedule.plan_version)
    values, faults = _values(stored, schedule.vars, due_at, schedule.time_zone)
    if faults:
        raise PlanRejected(faults)
    request = _request(
        stored,
        values,
        project=schedule.project,
        actor=schedule.actor,
        key=key,
        budget=schedule.budget,
        directive=schedule.directive,
    )
    return submit(context, request).run_id


def _values(
    stored: StoredPlan, given: Mapping[str, Any], due_at: datetime, time_zone: str
) -> tuple[dict[str, Any], tuple[Fault, ...]]:
    own = {DUE_VAR: due_at.astimezone(ZoneInfo(time_zone)).isoformat()} if DUE_VAR in stored.plan.vars else {}
    values, faults = resolve_vars(stored.plan, {**own, **given})
    return values, (*check_available(stored.plan, known_actions()), *faults)


def _request(
    stored: StoredPlan,
    values: Mapping[str, Any],
    *,
    project: str,
    actor: str,
    key: str | None,
    budget: Budget | None,
    directive: str | None,
) -> SubmitRequest:
    return SubmitRequest(
        plan=stored.plan,
        vars=values,
        project=project,
        actor=actor,
        content=stored.content,
        files=stored.files,
        brought=stored.brought,
        idempotency_key=key,
        budget=budget,
        directive=directive,
    )


def _refuse(context: EngineContext, schedule: Schedule, due_at: datetime, problem: str) -> None:
    with context.database.transaction() as tx:
        schedules.refuse(tx, schedule.id, due_at, Reason(ReasonCode.REFUSED, {"problem": problem}))
    log.warning("firing_refused", schedule=schedule.subject, due_at=due_at.isoformat(), problem=problem)
