"""Signal: hand a run what a step of it waits for, or keep it for the step that will.

Each signal ends one wait: of the steps that wait for its name the first by position. One that nobody waits for is kept,
and the first step that comes to wait for it takes it when it begins. All of it is rows, under the run's lock.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue
from sqlalchemy import Connection

from agentflow.domain.action import WaitAction
from agentflow.domain.beginning import Ends
from agentflow.domain.error import InvalidTransition, NotFound
from agentflow.domain.ids import RunId, StepId, StepKey
from agentflow.domain.plan import Plan
from agentflow.domain.signal import MAX_WAITING
from agentflow.domain.state import RunState, StepState, standing
from agentflow.domain.wording import did_you_mean
from agentflow.engine.conclude import Held, Verdict, conclude
from agentflow.engine.context import EngineContext
from agentflow.engine.record import ChainHead, Moves, record
from agentflow.storage import runs, signals
from agentflow.storage.retention import missing_run


@dataclass(frozen=True, slots=True)
class Signalled:
    """What became of a signal: the step whose wait it ended, or None where it is kept for one to come."""

    step: StepKey | None


@dataclass(frozen=True, slots=True)
class _Signal:
    run_id: RunId
    name: str
    data: JsonValue
    actor: str


def signal(context: EngineContext, run_id: RunId, name: str, actor: str, data: JsonValue = None) -> Signalled:
    """Send a signal to a run.

    InvalidTransition when the run ends or has ended, or when too many wait in it already; NotFound when no step of its
    plan ever waits for one of that name.
    """
    sent = _Signal(run_id, name, data, actor)
    while True:
        with context.database.transaction() as tx:
            listening = _kept_unless_heard(context, tx, sent)
        if listening is None:
            return Signalled(None)
        concluded = conclude(context, listening, actor, "signal", lambda tx, held: _heard(tx, held, sent))
        if concluded is not None:
            return Signalled(concluded.key)


def _kept_unless_heard(context: EngineContext, tx: Connection, sent: _Signal) -> StepId | None:
    """Return the step that the signal is for; where there is none, keep it."""
    run = runs.lock(tx, sent.run_id)
    if run is None:
        raise missing_run(tx, sent.run_id)
    if run.state not in (RunState.PENDING, RunState.RUNNING):
        raise InvalidTransition(f"Run {sent.run_id} {standing(run.state)} and takes no signal", state=run.state)
    listening = signals.find_listening(tx, sent.run_id, sent.name)
    if listening is not None:
        return listening
    _check_name(context.plans.get(tx, runs.read_plan_fingerprint(tx, sent.run_id)).plan, sent)
    if len(signals.read_waiting(tx, sent.run_id)) >= MAX_WAITING:
        raise InvalidTransition(
            f"Run {sent.run_id} has {MAX_WAITING:,} signals that no step has taken; it takes no more", state=run.state
        )
    number = signals.insert(tx, sent.run_id, sent.name, sent.data, sent.actor)
    head = ChainHead(sent.run_id, None, run.event_sequence, run.event_head)
    facts = _facts(sent.name, number, sent.data)
    record(
        context,
        tx,
        head,
        at=run.at,
        actor=sent.actor,
        action="signal",
        subject="run",
        moves=Moves(),
        verdict="kept",
        facts=facts,
    )
    return None


def _check_name(plan: Plan, sent: _Signal) -> None:
    """NotFound for a signal that no step of the plan will ever wait for."""
    names = {step.action.event for step in plan.every_step if isinstance(step.action, WaitAction)} - {None}
    if sent.name not in names:
        near = did_you_mean(sent.name, sorted(map(str, names))) if names else "its plan waits for none"
        raise NotFound(f"No step of run {sent.run_id} waits for a signal {sent.name!r}: {near}", signal=sent.name)


def _heard(tx: Connection, held: Held, sent: _Signal) -> Verdict | None:
    """End the wait, if it is still this signal's to end."""
    step = held.step.id
    if held.run.state is not RunState.RUNNING or signals.find_listening(tx, sent.run_id, sent.name) != step:
        return None
    number = signals.insert(tx, sent.run_id, sent.name, sent.data, sent.actor, taken_by=step)
    return Verdict(Ends(StepState.SUCCEEDED, result=sent.data), _facts(sent.name, number, sent.data))


def _facts(name: str, number: int, data: JsonValue) -> Mapping[str, Any]:
    return {"signal": name, "number": number, "has_data": data is not None}
