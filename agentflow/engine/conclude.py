"""Conclude: end a step that the engine held, or tell it to go on holding; one transaction, for whichever verb asks.

The caller says under the lock what becomes of the step; the consequences are drawn as after a settle. What is called
too late, or twice, changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from agentflow.domain.beginning import Ends
from agentflow.domain.ids import RunId, StepId, StepKey
from agentflow.domain.ids import step_id as id_of
from agentflow.domain.state import FINAL_RUN_STATES, StepState
from agentflow.engine.advance import ENDING, EndedStep, follow
from agentflow.engine.announce import announce
from agentflow.engine.context import EngineContext, PlanView
from agentflow.engine.dispatch import first_sends, send_steps
from agentflow.engine.evaluate import Conditions, with_conditions
from agentflow.engine.finalize import finalize
from agentflow.engine.record import ChainHead, Moves, record
from agentflow.engine.redo import redo
from agentflow.engine.trace import trace_gate
from agentflow.storage import engine_steps, runs, steps


@dataclass(frozen=True, slots=True)
class Held:
    """A held step under its lock, with the run that is held alone."""

    run: runs.LockedRun
    step: steps.LockedStep
    plan: PlanView


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of a held step: how it ends, or None where it is held on; and what the event says of it.

    ``redo``: it does not end, but the run goes back to that step.
    """

    ends: Ends | None
    facts: Mapping[str, Any] = field(default_factory=dict)
    redo: StepKey | None = None


Decide = Callable[[Connection, Held], Verdict | None]
"""Decides under the lock; None where nothing is to be done or recorded. Called again when the verb starts over."""


@dataclass(frozen=True, slots=True)
class Concluded:
    """What was decided, and which steps it made ready."""

    run_id: RunId
    key: StepKey
    verdict: Verdict
    ready: tuple[StepKey, ...]


@dataclass(frozen=True, slots=True)
class _Done:
    concluded: Concluded
    plan: PlanView
    moves: Moves
    sends: tuple[StepKey, ...]
    is_over: bool


def conclude(context: EngineContext, step_id: StepId, actor: str, verb: str, decide: Decide) -> Concluded | None:
    """Let ``decide`` say what becomes of a held step, and do it; None when it is held no more or nothing is decided."""
    done = with_conditions(
        context, lambda conditions: _in_transaction(context, step_id, actor, verb, decide, conditions)
    )
    if done is None:
        return None
    run_id = done.concluded.run_id
    trace_gate(context, run_id, step_id, done.concluded.key)
    if done.sends:
        send_steps(context, run_id, done.plan, done.sends)
    if len(done.concluded.ready) > len(done.sends) or done.moves.has_held:
        context.side_channel.wake()
    announce(context, run_id, done.moves)
    if done.is_over:
        finalize(context, run_id, actor)
    return done.concluded


def _in_transaction(
    context: EngineContext, step_id: StepId, actor: str, verb: str, decide: Decide, conditions: Conditions
) -> _Done | None:
    with context.database.transaction() as tx:
        run_id = steps.find_run_of(tx, step_id)
        run = runs.lock(tx, run_id) if run_id else None
        step = steps.lock(tx, step_id) if run else None
        if run is None or step is None or step.state is not StepState.HELD or run.state in FINAL_RUN_STATES:
            return None
        held = Held(run, step, context.plans.get(tx, runs.read_plan_fingerprint(tx, run.run_id)))
        verdict = decide(tx, held)
        if verdict is None:
            return None
        moves, is_over = Moves(), False
        ready: tuple[StepKey, ...] = ()
        if verdict.ends is not None or verdict.redo is not None:
            runs.rest_waiting(tx, run)
        if verdict.ends is not None:
            ready, is_over = _end(tx, held, verdict.ends, conditions, moves)
        elif verdict.redo is not None:
            ready, is_over = redo(tx, held.plan, run, step.key, verdict.redo, conditions, moves)
        sends = tuple(first_sends(held.plan, ready)) if not run.rests else ()
        steps.stamp_sent(tx, [id_of(run.run_id, key) for key in sends])
        record(
            context,
            tx,
            ChainHead(run.run_id, step_id, step.event_sequence, step.event_head),
            at=run.at,
            actor=actor,
            action=verb,
            subject=f"step:{step.key}",
            moves=moves,
            reason=verdict.ends.reason if verdict.ends else None,
            facts=verdict.facts,
        )
    return _Done(Concluded(run.run_id, step.key, verdict, ready), held.plan, moves, sends, is_over)


def _end(
    tx: Connection, held: Held, ends: Ends, conditions: Conditions, moves: Moves
) -> tuple[tuple[StepKey, ...], bool]:
    """End the step; returns what it made ready, and whether the run may be over."""
    run, step = held.run, held.step
    engine_steps.end_held(tx, step.id, ends.state, ends.reason, ends.result)
    moves.add_step(step.key, StepState.HELD, ends.state)
    ended = EndedStep(step.id, step.key, step.is_sink, ends.state, ends.reason)
    followed, open_sinks = follow(tx, held.plan, run, ended, conditions=conditions, holds_run=True, moves=moves)
    return tuple(successor.key for successor in followed.ready), not open_sinks or followed.run_state in ENDING
