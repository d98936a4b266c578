"""Fork: a new run that takes over what a run did before a step, and does the rest anew.

Steps that succeeded and do not follow from that step stand in the new run as they ended in its origin, with files of
their own: the origin is not changed, and may be pruned. What they used counts in no budget again. See
docs/decisions/0019-a-fork-takes-its-content-along.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from agentflow.domain.action import SubprocessAction
from agentflow.domain.budget import Budget
from agentflow.domain.budget_document import overlaid
from agentflow.domain.child import is_child, plan_id
from agentflow.domain.error import ContentError, NotFound, PlanRejected
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.mode import Mode, gate_faults, gated, start_gate
from agentflow.domain.plan import Plan
from agentflow.domain.plan_check import check_available
from agentflow.domain.reason import ReasonCode
from agentflow.domain.reuse import changed_vars
from agentflow.domain.state import RunState
from agentflow.domain.variable import resolve_vars
from agentflow.domain.wording import did_you_mean
from agentflow.engine.advance import let_go
from agentflow.engine.carry import Carrying, vars_in
from agentflow.engine.context import EngineContext, PlanView
from agentflow.engine.evaluate import Conditions
from agentflow.engine.expand import insert_items
from agentflow.engine.inputs import forget_run, keep_inputs
from agentflow.engine.load_plan import LoadedPlan
from agentflow.engine.record import Moves
from agentflow.engine.submit import Placed, SubmitRequest, start_run
from agentflow.executors.base import known_actions
from agentflow.storage import forks, precondition, runs, steps
from agentflow.storage.retention import missing_run


@dataclass(frozen=True, slots=True)
class Forked:
    """The run that was made, and what it took over.

    ``outdated`` maps steps that were taken over to the vars that they refer to and that have another value now;
    ``changed_files`` names the plan's files that such steps may have read as they were before.
    """

    run_id: RunId
    reused: tuple[StepKey, ...]
    is_existing: bool = False
    is_sent: bool = True
    outdated: Mapping[StepKey, tuple[str, ...]] = field(default_factory=dict)
    changed_files: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ForkRequest:
    """What is asked for: ``vars`` over the origin's, ``budget`` over its caps by kinds, ``edited`` for its plan."""

    from_step: StepKey
    actor: str
    vars: Mapping[str, Any] = field(default_factory=dict)
    edited: LoadedPlan | None = None
    budget: Budget | None = None
    directive: str | None = None
    idempotency_key: str | None = None


def fork(context: EngineContext, origin_id: RunId, asked: ForkRequest) -> Forked:
    """Make a run of what ``origin_id`` has done so far, whatever its state, and of a step and what follows it anew.

    NotFound for an unknown run or step, PlanRejected for vars or an edited plan with faults, ContentError when what is
    to be taken over is not there any more; else as a submit.
    """
    with context.database.transaction() as tx:
        origin = forks.read_origin(tx, origin_id)
        if origin is None:
            raise missing_run(tx, origin_id)
        old = context.plans.get(tx, origin.plan_fingerprint).plan
        reusable = forks.read_reusable(tx, origin_id)
    new = asked.edited.plan if asked.edited else old
    _check_step(asked, new)
    request = _request(origin_id, origin, old, new, asked)
    opening = _FromAStep(origin_id, old, asked, reusable)
    submitted = start_run(context, request, opening)
    if submitted.is_existing or opening.carrying is None:
        return Forked(submitted.run_id, _read_reused(context, submitted.run_id), is_existing=True)
    reused = tuple(key for key in opening.carrying.view.graph.order if key in opening.reused)
    return Forked(
        submitted.run_id,
        reused,
        is_sent=submitted.is_sent,
        outdated=_outdated(opening.carrying, reused, changed_vars(origin.vars, request.vars)),
        changed_files=_changed_files(old, request.plan, reused),
    )


def _check_step(asked: ForkRequest, plan: Plan) -> None:
    keys = [step.id for step in plan.every_step]
    if plan_id(asked.from_step) not in keys:
        which = "edited plan" if asked.edited else "run"
        hint = did_you_mean(asked.from_step, keys)
        raise NotFound(f"The {which} has no step {asked.from_step!r}: {hint}", step=asked.from_step)


def _outermost(plan: Plan, key: StepKey) -> StepKey:
    """The step of the plan itself that is done again: what stands inside of a foreach is, with all of that."""
    key = plan_id(key)
    while key in plan.foreach_around:
        key = plan.foreach_around[key]
    return key


def _request(origin_id: RunId, origin: forks.Origin, old: Plan, new: Plan, asked: ForkRequest) -> SubmitRequest:
    """The fork as a submission: what the origin was given stays, unless the caller or an edited plan says otherwise.

    That of a strict run begins with a gate of its own, whoever edited the plan.
    """
    values, faults = resolve_vars(new, {**_given(origin.vars, old, new), **asked.vars})
    gate = start_gate(old)
    lacks_gate = origin.mode is Mode.STRICT and (gate is None or new is not old)
    faults = (*check_available(new, known_actions()), *(gate_faults(new) if lacks_gate else ()), *faults)
    if faults:
        raise PlanRejected(asked.edited.placed(faults) if asked.edited else faults)
    caps = origin.caps if new.budget == old.budget else new.budget
    directive = origin.directive if new.directive == old.directive else new.directive
    return SubmitRequest(
        plan=gated(new, allows_self=gate is not None and gate.allows_self) if lacks_gate else new,
        vars=values,
        project=origin.project,
        actor=asked.actor,
        content=asked.edited.content if asked.edited else {},
        files=asked.edited.files if asked.edited else {},
        idempotency_key=asked.idempotency_key,
        budget=overlaid(caps, asked.budget),
        directive=asked.directive or directive,
        brought=asked.edited.brought if asked.edited else {},
        child_plans=None if asked.edited else origin.child_plans,
        forked_from=origin_id,
        forked_at_step=asked.from_step,
        mode=origin.mode,
        ungated=new if lacks_gate else None,
    )


def _given(values: Mapping[str, Any], old: Plan, new: Plan) -> dict[str, Any]:
    """The vars of the origin that go on: those that the new plan has, unless only an edited default changed."""
    return {
        name: value
        for name, value in values.items()
        if name in new.vars and (old.vars[name] == new.vars[name] or value != old.vars[name].default)
    }


@dataclass
class _FromAStep:
    """Begins with what the origin has done, and with the steps that then wait for nothing."""

    origin_id: RunId
    old: Plan
    asked: ForkRequest
    reusable: Mapping[StepKey, forks.ReusableStep]
    reused: frozenset[StepKey] = frozenset()
    carrying: Carrying | None = None

    @property
    def action(self) -> str:
        return "fork"

    def fill(self, context: EngineContext, run_id: RunId, view: PlanView) -> None:
        with context.database.autocommit() as tx:  # no lock: as it is seen now it was when it was read
            precondition.hold(tx, self.origin_id)
        first = _outermost(view.plan, self.asked.from_step)
        carrying = Carrying(context, self.origin_id, run_id, self.old, view, first, self.reusable)
        try:
            if self.asked.edited is None:
                carrying.take_inputs()
            else:
                edited = self.asked.edited
                keep_inputs(context, run_id, view.plan, edited.content, edited.files, edited.brought)
            self.reused = carrying.take_over()
        except ContentError:
            forget_run(context, run_id)
            raise
        self.carrying = carrying

    def place(self, tx: Connection, run: runs.LockedRun, view: PlanView, conditions: Conditions) -> Placed:
        moves, graph, run_id = Moves(), view.graph, run.run_id
        for step in self._taken_over(tx, view, run_id):
            moves.add_step(step.key, None, step.state)
        waiting = steps.open_fork(tx, run_id)
        followed = let_go(tx, view, run, waiting, conditions=conditions, moves=moves)
        closed = followed.closed_sinks + len(self.reused.intersection(graph.sinks))
        open_sinks = runs.close_sinks(tx, run, closed) if closed else run.open_sinks
        ready = [step.key for step in followed.ready]
        facts = {"forked_from": str(self.origin_id), "from_step": self.asked.from_step, "reused": len(self.reused)}
        is_over = not open_sinks or followed.run_state is not RunState.RUNNING
        return Placed(ready, moves, is_over, facts)

    def _taken_over(self, tx: Connection, view: PlanView, run_id: RunId) -> list[forks.ReusableStep]:
        """Write the steps that are taken over as they ended, those inside of foreachs too."""
        of_plan = [self.reusable[key] for key in view.graph.order if key in self.reused]
        inside = [self.reusable[key] for step in of_plan if self.carrying for key in self.carrying.inside(step.key)]
        taken = [*of_plan, *inside]
        for foreach in sorted((step for step in taken if step.items), key=lambda step: step.key.count("[")):
            if foreach.items is not None:
                insert_items(tx, view, run_id, foreach.key, foreach.items.count)
        forks.insert_reused(tx, run_id, taken)
        return taken


def _read_reused(context: EngineContext, run_id: RunId) -> tuple[StepKey, ...]:
    with context.database.transaction() as tx:
        standing = steps.read_states(tx, run_id)
    return tuple(key for key, step in standing.items() if step.reason_code == ReasonCode.REUSED and not is_child(key))


def _outdated(carrying: Carrying, reused: Iterable[StepKey], changed: frozenset[str]) -> dict[StepKey, tuple[str, ...]]:
    """The steps that were taken over although they refer to vars that have another value now."""
    if not changed:
        return {}
    found = {key: sorted(vars_in(carrying.references(key)) & changed) for key in reused}
    return {key: tuple(names) for key, names in found.items() if names}


def _changed_files(old: Plan, new: Plan, reused: Iterable[StepKey]) -> tuple[str, ...]:
    """The files that are new, gone or otherwise in the new plan, if a command that was taken over may have read any."""
    if not any(isinstance(new.step(key).action, SubprocessAction) for key in reused):
        return ()
    before, now = ({file.path: file.sha256 for file in plan.files} for plan in (old, new))
    return tuple(sorted(path for path in before.keys() | now.keys() if before.get(path) != now.get(path)))
