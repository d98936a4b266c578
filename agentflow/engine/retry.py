"""Retry: take the failed, cancelled or held steps of a run up again, and with them what waited for them.

A finished run gets a new round. What succeeded stays, but for model calls whose answers went with the end of the run
and that a step which runs again refers to, with what follows from them (see reask.py); what failed or was held starts
over; what was skipped or cancelled on their account waits for its needs, or is decided by its condition, as it was the
first time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from sqlalchemy import Connection

from agentflow.domain.error import InvalidTransition, NotFound
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.pause import Pause
from agentflow.domain.reason import ReasonCode
from agentflow.domain.state import FINAL_RUN_STATES, FINAL_STEP_STATES, RunState, StepState
from agentflow.domain.wording import listing
from agentflow.engine.advance import Advance, let_go, make_ready
from agentflow.engine.announce import announce
from agentflow.engine.context import EngineContext, PlanView
from agentflow.engine.evaluate import Conditions, with_conditions
from agentflow.engine.finalize import finalize
from agentflow.engine.reask import STARTS_OVER, KnownReferences, also_again, with_references
from agentflow.engine.record import ChainHead, Moves, record
from agentflow.engine.row_graph import RowGraph, row_graph
from agentflow.engine.start_guard import check_awaited, lock_parent
from agentflow.engine.take_up import Standing, is_counted, named_inside, reopen, with_foreachs
from agentflow.storage import installations, runs, steps
from agentflow.storage.retention import missing_run

STOPPED = frozenset({ReasonCode.STEP_FAILED, ReasonCode.DRAINED, ReasonCode.SERVERS_AWAY, ReasonCode.WORKER_LOST})
"""Why a step is skipped that only the failing of its run kept from running."""


@dataclass(frozen=True, slots=True)
class Retried:
    """What a retry took up again: what goes on at once, and what waits for that.

    ``held`` is what waits for something else again, with the code of that: a gate, a child run, a signal, a time.
    """

    ready: tuple[StepKey, ...]
    pending: tuple[StepKey, ...]
    held: Mapping[StepKey, str] = field(default_factory=dict)


def retry(
    context: EngineContext,
    run_id: RunId,
    actor: str,
    *,
    only: StepKey | frozenset[StepKey] | None = None,
    facts: Mapping[str, Any] | None = None,
) -> Retried:
    """Take up the failed steps of an ended run, or a held step of a running one; ``only`` names a single step or some.

    InvalidTransition when the run is still ending, or when nothing of it can be taken up. ContentError when it matters
    what its steps refer to, and that cannot be read here. Under maintenance the run rests from then on. ``facts`` are
    recorded with the event.
    """
    asked = _Asked(run_id, actor, frozenset({only}) if isinstance(only, str) else only, facts or {})
    done = with_references(
        context,
        run_id,
        lambda known: with_conditions(context, lambda conditions: _in_transaction(context, asked, known, conditions)),
    )
    announce(context, run_id, done.moves)
    context.side_channel.wake()
    finalize(context, run_id, actor)  # nothing may be left to do: every condition was false again
    return done.retried


@dataclass(frozen=True, slots=True)
class _Asked:
    run_id: RunId
    actor: str
    only: frozenset[StepKey] | None
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Done:
    retried: Retried
    moves: Moves


def _in_transaction(context: EngineContext, asked: _Asked, known: KnownReferences, conditions: Conditions) -> _Done:
    run_id = asked.run_id
    with context.database.transaction() as tx:
        maintenance = installations.enter(tx)
        parent = lock_parent(tx, run_id)
        run = runs.lock(tx, run_id)
        if run is None:
            raise missing_run(tx, run_id)
        check_awaited(parent, run)
        plan = context.plans.get(tx, runs.read_plan_fingerprint(tx, run_id))
        standing = steps.read_states(tx, run_id)
        rows = row_graph(plan, standing)
        reopened = _reopened(run, rows, standing, asked.only)
        if run.state in FINAL_RUN_STATES:
            reopened = _with_what_is_read(run, rows, standing, reopened, known)
        moves = Moves()
        going = _set_going(tx, plan, run, standing, reopened, moves)
        followed = _take_up(tx, rows, going, standing, reopened, conditions, moves)
        now = steps.read_states(tx, run_id)
        rest = _rest(tx, going, maintenance) if followed.run_state is RunState.RUNNING else {}
        facts = {**asked.facts, **rest}
        head = ChainHead(run_id, None, run.event_sequence, run.event_head)
        record(context, tx, head, at=run.at, actor=asked.actor, action="retry", subject="run", moves=moves, facts=facts)
    again = [key for key in rows.graph.order if key in reopened]
    retried = Retried(
        ready=tuple(key for key in again if now[key].state is StepState.READY),
        pending=tuple(key for key in again if now[key].state is StepState.PENDING),
        held={key: now[key].reason_code or "" for key in again if now[key].state is StepState.HELD},
    )
    return _Done(retried, moves)


def _set_going(
    tx: Connection,
    plan: PlanView,
    run: runs.LockedRun,
    standing: Mapping[StepKey, steps.StandingStep],
    reopened: frozenset[StepKey],
    moves: Moves,
) -> runs.LockedRun:
    """Let the run run before its steps are let go: one of them may fail it at once."""
    runs.rest_waiting(tx, run)
    open_sinks = sum(sink in reopened or standing[sink].state not in FINAL_STEP_STATES for sink in plan.graph.sinks)
    runs.reopen(tx, run, open_sinks)
    if run.state in FINAL_RUN_STATES:
        moves.add_run(run.state, RunState.RUNNING)
    return replace(run, state=RunState.RUNNING, reason=None, open_sinks=open_sinks)


def _rest(tx: Connection, run: runs.LockedRun, maintenance: Pause | None) -> dict[str, Any]:
    """Let a run rest under the maintenance that stands, unless it is paused already; returns the facts to record."""
    if maintenance is None or run.paused is not None:
        return {}
    paused = replace(maintenance, at=run.at)
    runs.pause(tx, run, paused)
    return {"paused": paused.as_json()}


def _reopened(
    run: runs.LockedRun, rows: RowGraph, standing: Standing, only: frozenset[StepKey] | None
) -> frozenset[StepKey]:
    for key in sorted((only or frozenset()) - standing.keys()):
        raise NotFound(f"Run {run.run_id} has no step {key!r}", step=key)
    if run.state in (RunState.FAILING, RunState.CANCELLING):
        raise InvalidTransition(f"Run {run.run_id} is still {run.state}; retry it once it has ended", state=run.state)
    wanted = {StepState.HELD}
    if run.state in FINAL_RUN_STATES:
        wanted |= {StepState.FAILED, StepState.CANCELLED}
    meant = (is_counted(rows, standing, key) for key in standing) if only is None else (key in only for key in standing)
    chosen = {
        key
        for (key, step), is_meant in zip(standing.items(), meant, strict=True)
        if is_meant and step.state in wanted and not _waits(step)
    }
    if not chosen or run.state is RunState.COMPLETED:
        named = listing([f"step {key!r} ({standing[key].state})" for key in sorted(only or ())])
        what = named or "no step of it failed, was cancelled or is held"
        raise InvalidTransition(f"Run {run.run_id} ({run.state}) cannot be retried: {what}", state=run.state)
    for key in sorted(only or ()):
        _check_needs(run, rows, standing, key)
    if run.state not in FINAL_RUN_STATES:
        return frozenset(chosen)
    chosen.update(inner for key in only or () for inner in named_inside(rows, standing, key))
    return _with_skipped(run, rows, standing, chosen)


def _waits(step: steps.StandingStep) -> bool:
    """Whether a held step waits for something that comes by itself or by another verb: that is no failure."""
    return step.state is StepState.HELD and step.reason_code != ReasonCode.AWAITS_PERSON


def _check_needs(run: runs.LockedRun, rows: RowGraph, standing: Standing, only: StepKey) -> None:
    """Refuse to take up a step alone that never had its turn: it would only be skipped at once."""
    unmet = [need for need in rows.before(only) if standing[need].state is StepState.CANCELLED]
    if unmet:
        raise InvalidTransition(
            f"Step {only!r} needs {', '.join(unmet)}, which {'was' if len(unmet) == 1 else 'were'} cancelled; "
            f"retry {'that step' if len(unmet) == 1 else 'those steps'} or the whole run",
            state=run.state,
            needs=unmet,
        )


def _with_skipped(
    run: runs.LockedRun, rows: RowGraph, standing: Standing, chosen: Collection[StepKey]
) -> frozenset[StepKey]:
    """The chosen steps, the skipped ones behind them, and those that were stopped when a chosen one failed the run.

    With the foreachs around each of them, and what is behind those.
    """
    graph, found = rows.graph, set[StepKey]()
    while chosen != found:
        found = with_foreachs(rows, chosen)
        lifts_stop = run.reason is None or run.reason.detail.get("step") in found
        for key in graph.order:
            step = standing[key]
            if step.state is not StepState.SKIPPED or step.reason_code == ReasonCode.OVERRIDDEN:
                continue  # what a person skipped stays so
            was_stopped = lifts_stop and step.reason_code in STOPPED
            if was_stopped or any(need in found for need in graph.needs[key]):
                found.add(key)
        chosen, found = found, with_foreachs(rows, found)
    return frozenset(found)


def _with_what_is_read(
    run: runs.LockedRun,
    rows: RowGraph,
    standing: Standing,
    reopened: frozenset[StepKey],
    known: KnownReferences,
) -> frozenset[StepKey]:
    """Add what must run again because a step that runs again reads it, and what is skipped behind that."""
    while more := also_again(rows, standing, reopened, known) - reopened:
        reopened = _with_skipped(run, rows, standing, reopened | more)
    return reopened


def _take_up(
    tx: Connection,
    rows: RowGraph,
    run: runs.LockedRun,
    standing: Standing,
    reopened: frozenset[StepKey],
    conditions: Conditions,
    moves: Moves,
) -> Advance:
    plan, taken = rows.plan, reopen(tx, rows, run.run_id, reopened)
    for step in taken:
        moves.add_step(step.key, standing[step.key].state, StepState.PENDING)
    over = {
        step.id
        for step in taken
        if standing[step.key].state in STARTS_OVER and not step.needs_open and not plan.plan.is_engines(step.key)
    }
    make_ready(tx, [step for step in taken if step.id in over], Advance(RunState.RUNNING), moves)
    waiting = [step for step in taken if step.id not in over]
    followed = let_go(tx, plan, run, waiting, conditions=conditions, moves=moves)
    if followed.closed_sinks:
        runs.close_sinks(tx, run, followed.closed_sinks)
    return followed
