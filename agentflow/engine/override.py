"""Override: a person ends a step that has not run, as skipped or as succeeded; or chooses for a decision.

The step ends in this transaction, and what follows from that is drawn as after a settle. Its own needs may still be
open: those that end later find it final. No gate is passed in this way, neither one itself nor one before the step.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from agentflow.domain.action import ApprovalAction
from agentflow.domain.child import is_child, item_key, loops, plan_id
from agentflow.domain.error import InvalidTransition, NotFound
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.ids import step_id as id_of
from agentflow.domain.override import Choose, Override, Skip, Succeed, checked_result, ending_of, gates_before
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.state import FINAL_RUN_STATES, FINAL_STEP_STATES, StepState
from agentflow.domain.wording import did_you_mean
from agentflow.engine.advance import ENDING, EndedStep, follow
from agentflow.engine.announce import announce
from agentflow.engine.context import EngineContext, PlanView
from agentflow.engine.dispatch import first_sends, send_steps
from agentflow.engine.evaluate import Conditions, with_conditions
from agentflow.engine.finalize import finalize
from agentflow.engine.record import ChainHead, Moves, record
from agentflow.storage import children, interventions, runs, steps
from agentflow.storage.retention import missing_run


@dataclass(frozen=True, slots=True)
class Overridden:
    """What an override did: from where to where the step went, and which steps became ready by it."""

    step: StepKey
    old_state: StepState
    new_state: StepState
    ready: tuple[StepKey, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """Who overrides which step, how and why."""

    run_id: RunId
    key: StepKey
    how: Override
    actor: str
    why: str


@dataclass(frozen=True, slots=True)
class _Done:
    overridden: Overridden
    plan: PlanView
    moves: Moves
    sends: tuple[StepKey, ...]
    is_over: bool


def override(context: EngineContext, asked: Asked) -> Overridden:
    """End a step that neither runs nor is final.

    NotFound for an unknown step, UsageError for an override that it cannot have, InvalidTransition where its state, a
    gate before it, or what stands inside of it does not allow one.
    """
    done = with_conditions(context, lambda conditions: _in_transaction(context, asked, conditions))
    if done.sends:
        send_steps(context, asked.run_id, done.plan, done.sends)
    context.side_channel.wake()
    announce(context, asked.run_id, done.moves)
    if done.is_over:
        finalize(context, asked.run_id, asked.actor)
    return done.overridden


def _in_transaction(context: EngineContext, asked: Asked, conditions: Conditions) -> _Done:
    reason = Reason(ReasonCode.OVERRIDDEN, {"actor": asked.actor, "why": asked.why})
    with context.database.transaction() as tx:
        run = runs.lock(tx, asked.run_id)
        if run is None:
            raise missing_run(tx, asked.run_id)
        plan = context.plans.get(tx, runs.read_plan_fingerprint(tx, run.run_id))
        step = _lock_step(tx, run, asked.key)
        ends = ending_of(plan.plan, asked.key, asked.how, reason)
        _check_state(tx, run, step)
        _check_place(tx, plan, run, asked.key)
        runs.rest_waiting(tx, run)
        interventions.override(tx, step.id, ends)
        moves = Moves()
        moves.add_step(step.key, step.state, ends.state)
        ended = EndedStep(step.id, step.key, step.is_sink, ends.state, reason)
        followed, open_sinks = follow(tx, plan, run, ended, conditions=conditions, holds_run=True, moves=moves)
        ready = tuple(successor.key for successor in followed.ready)
        sends = () if run.rests else tuple(first_sends(plan, ready))
        steps.stamp_sent(tx, [id_of(run.run_id, key) for key in sends])
        record(
            context,
            tx,
            ChainHead(run.run_id, step.id, step.event_sequence, step.event_head),
            at=run.at,
            actor=asked.actor,
            action="override",
            subject=f"step:{step.key}",
            moves=moves,
            reason=reason,
            facts=_facts(asked.how),
        )
    is_over = not open_sinks or followed.run_state in ENDING
    return _Done(Overridden(step.key, step.state, ends.state, ready), plan, moves, sends, is_over)


def _facts(how: Override) -> dict[str, Any]:
    """What the event says of the override: of a result its hash and size."""
    match how:
        case Skip():
            return {"how": "skip"}
        case Choose(label=label):
            return {"how": "choose", "choice": label}
        case Succeed(result=result):
            text = b"" if result is None else checked_result(result)
            told = {"sha256": hashlib.sha256(text).hexdigest(), "bytes": len(text)}
            return {"how": "succeed", "result": None if result is None else told}


def _lock_step(tx: Connection, run: runs.LockedRun, key: StepKey) -> steps.LockedStep:
    step = steps.lock(tx, id_of(run.run_id, key))
    if step is None:
        known = did_you_mean(key, steps.read_states(tx, run.run_id))
        raise NotFound(f"Run {run.run_id} has no step {key!r}: {known}", run_id=str(run.run_id), step=key)
    return step


def _check_state(tx: Connection, run: runs.LockedRun, step: steps.LockedStep) -> None:
    if run.state in FINAL_RUN_STATES:
        raise InvalidTransition(
            f"Run {run.run_id} has ended ({run.state}): no step of it can be overridden. Take it up again first: "
            "agentflow retry",
            state=run.state,
        )
    if step.state is StepState.RUNNING:
        raise InvalidTransition(
            f"Step {step.key!r} is running and cannot be overridden: let it end, or give it back first with "
            "agentflow pause --now",
            state=step.state,
        )
    if step.state in FINAL_STEP_STATES:
        raise InvalidTransition(f"Step {step.key!r} has ended ({step.state}) and stays so", state=step.state)
    standing = steps.read_states(tx, run.run_id)[step.key]
    if standing.reason_code == ReasonCode.AWAITS_RUN:
        raise InvalidTransition(
            f"Step {step.key!r} waits for a child run: cancel that run, and the step ends with it", state=step.state
        )


def _check_place(tx: Connection, plan: PlanView, run: runs.LockedRun, key: StepKey) -> None:
    """Refuse where the rows around a step would not fit it any more."""
    if plan.plan.is_body(key):
        raise InvalidTransition(f"Step {key!r} ends as its body does: override the steps of the body", step=key)
    around = loops(key)
    turns = interventions.read_turns(tx, run.run_id, [key, *(loop.key for loop in around)])
    if key in turns:
        raise InvalidTransition(
            f"Step {key!r} goes through {turns[key].children} items and ends as they do: override single ones, such "
            f"as {key}[0]",
            step=key,
        )
    awaiting = children.read_awaiting(tx, run.run_id, [item_key(loop.key, loop.item) for loop in around])
    for loop in around:
        if item_key(loop.key, loop.item) in awaiting:
            raise InvalidTransition(
                f"Item {loop.item} of {loop.key!r} has not had its turn: override it once it has", step=key
            )
    _check_gates(tx, plan, run, key)


def _check_gates(tx: Connection, plan: PlanView, run: runs.LockedRun, key: StepKey) -> None:
    foreach = plan.plan.foreach_around.get(plan_id(key)) if is_child(key) else None
    body_graph = None if foreach is None else plan.body_graph(foreach)
    gates = list(gates_before(plan.plan, plan.graph, body_graph, key))
    if not gates:
        return
    standing = steps.read_states(tx, run.run_id)
    open_gates = sorted(gate for gate in gates if gate in standing and standing[gate].state not in FINAL_STEP_STATES)
    if not open_gates:
        return
    asking = _asking(plan, standing, open_gates)
    first = asking[0] if asking else open_gates[0]
    more = f" (and {len(asking) - 1:,} more)" if len(asking) > 1 else ""
    named = f"the gate {first!r}{more}" if asking or not plan.plan.is_foreach(first) else f"the gates of {first!r}"
    raise InvalidTransition(
        f"Step {key!r} stands behind {named}, which nobody has decided: no override passes it",
        step=key,
        gates=asking or open_gates,
    )


def _asking(plan: PlanView, standing: Mapping[StepKey, steps.StandingStep], behind: Sequence[StepKey]) -> list[StepKey]:
    """The gates that wait now among those that a step stands behind, in a foreach by its items."""
    found = []
    for key, step in standing.items():
        is_before = key in behind or any(loop.key in behind for loop in loops(key))
        is_gate = isinstance(plan.plan.step(key).action, ApprovalAction)
        if is_before and is_gate and step.reason_code == ReasonCode.AWAITS_DECISION:
            found.append(key)
    return sorted(found, key=lambda key: ([loop.item for loop in loops(key)], key))
