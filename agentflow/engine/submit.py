"""Submit: accept a plan as a run, once per idempotency key, and send what is ready. A fork is accepted the same way.

Content goes into the store before the commit, the run with all its steps into one transaction, doorbells after it.
If they cannot be sent the run is safe: the dispatcher sends them, and the caller is told.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol
from uuid import uuid4

from sqlalchemy import Connection

from agentflow.domain.budget import Budget
from agentflow.domain.budget_document import overlaid
from agentflow.domain.error import IdempotencyConflict, PlanRejected
from agentflow.domain.fault import Fault
from agentflow.domain.ids import RunId, StepKey, step_id
from agentflow.domain.mode import Mode, gate_faults, gated
from agentflow.domain.plan import Plan
from agentflow.domain.state import RunState, StepState
from agentflow.engine.advance import Advance, let_go
from agentflow.engine.check_costs import check_costs
from agentflow.engine.child_plans import documents_in, resolve_plans
from agentflow.engine.context import EngineContext, PlanView
from agentflow.engine.dispatch import first_sends, send_steps
from agentflow.engine.evaluate import Conditions, with_conditions
from agentflow.engine.finalize import finalize
from agentflow.engine.inputs import forget_run, keep_inputs
from agentflow.engine.new_steps import labels_of, new_step
from agentflow.engine.record import ChainHead, Moves, record
from agentflow.engine.start_guard import hold_parent
from agentflow.engine.trace import trace_submit
from agentflow.settings import Settings
from agentflow.storage import children, graphs, installations, limits, runs, steps
from agentflow.storage.child_runs import Parentage


@dataclass(frozen=True, slots=True)
class SubmitRequest:
    """What is submitted: ``content`` maps hashes to texts taken out of the plan, ``files`` plan paths to local ones.

    ``budget`` goes over the plan's, kind by kind, and ``directive`` over the plan's.
    """

    plan: Plan
    vars: Mapping[str, Any]
    project: str
    actor: str
    content: Mapping[str, bytes]
    files: Mapping[str, Path]
    idempotency_key: str | None = None
    budget: Budget | None = None
    directive: str | None = None
    forked_from: RunId | None = None
    forked_at_step: StepKey | None = None
    brought: Mapping[str, bytes | Path] = field(default_factory=dict)
    """What the plans of its child runs bring along that are files, by hash."""
    child_plans: Mapping[str, Any] | None = None
    """The stored plans that its child runs name; None where they are yet to be looked up."""
    parentage: Parentage | None = None
    """Of a child run."""
    caps_above: tuple[Budget, ...] = ()
    """What the runs above a child run are capped to."""
    mode: Mode = Mode.AUTO
    allows_self: bool = False
    """Whether who submits a strict run may approve it."""
    ungated: Plan | None = None
    """The plan of a strict run as it was handed in."""

    def with_gate(self) -> SubmitRequest:
        """Return the request with the gate that its mode asks for. PlanRejected where the plan leaves no place."""
        if self.mode is not Mode.STRICT or self.ungated is not None:
            return self
        if faults := gate_faults(self.plan):
            raise PlanRejected(faults)
        return replace(self, plan=gated(self.plan, allows_self=self.allows_self), ungated=self.plan)

    @property
    def sha256(self) -> str:
        """What two submissions under one key must share: plan, vars, a given budget and directive, where they fork."""
        shared: list[Any] = [self.plan.fingerprint, dict(self.vars)]
        given = {"budget": self.budget and self.budget.model_dump(exclude_none=True), "directive": self.directive}
        if self.forked_from is not None:
            given |= {"forked_from": str(self.forked_from), "forked_at_step": self.forked_at_step}
        if any(given.values()):
            shared.append({name: value for name, value in given.items() if value})
        return hashlib.sha256(json.dumps(shared, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    @property
    def caps(self) -> Budget:
        """The budget of the run."""
        return overlaid(self.plan.budget, self.budget)

    @property
    def run_directive(self) -> str | None:
        """The directive of the run."""
        return self.directive or self.plan.directive

    def cost_faults(self, settings: Settings) -> tuple[Fault, ...]:
        """Every fault of the plan's model calls under the budgets that this run would have."""
        return check_costs(
            self.ungated or self.plan,
            self.vars,
            caps=self.caps,
            caps_above=self.caps_above,
            project=self.project,
            directive=self.run_directive,
            settings=settings,
        )


@dataclass(frozen=True, slots=True)
class Submitted:
    """The run that stands for the submission; ``is_sent`` is False while Redis does not take its doorbells."""

    run_id: RunId
    is_existing: bool
    is_sent: bool = True


@dataclass(frozen=True, slots=True)
class Placed:
    """How the steps of a new run stand: which are ready, whether it may be over already, and what the event names."""

    ready: Sequence[StepKey]
    moves: Moves
    is_over: bool = False
    facts: Mapping[str, Any] = field(default_factory=dict)


class Opening(Protocol):
    """How an accepted run begins."""

    @property
    def action(self) -> str:
        """What the event calls it."""

    def fill(self, context: EngineContext, run_id: RunId, view: PlanView) -> None:
        """Put into the content store what the run begins with; outside of any transaction."""

    def place(self, tx: Connection, run: runs.LockedRun, view: PlanView, conditions: Conditions) -> Placed:
        """Let the steps stand as they begin; they were just written, ready where a worker performs them at once."""


@dataclass(frozen=True, slots=True)
class _Written:
    """What is written of a plan, made beforehand: for a large one that takes longer than a transaction may rest."""

    plan: bytes
    graph: graphs.WrittenGraph


class _KeyTaken(Exception):
    """Another submission under the same key was quicker: nothing of this one stays, not even its plan."""


def submit(context: EngineContext, request: SubmitRequest) -> Submitted:
    """Accept ``request`` as a run.

    IdempotencyConflict when its key stands for another submission, PlanRejected when the cost of a model call has no
    bound under the budgets that there are. Under maintenance the run rests from its first moment.
    """
    request = request.with_gate()
    return start_run(context, request, FromTheTop(request))


@dataclass(frozen=True, slots=True)
class FromTheTop:
    """Begins with what was handed in, and with every step that needs nothing."""

    request: SubmitRequest
    action: str = "submit"

    def fill(self, context: EngineContext, run_id: RunId, view: PlanView) -> None:
        request = self.request
        keep_inputs(context, run_id, view.plan, request.content, request.files, request.brought)

    def place(self, tx: Connection, run: runs.LockedRun, view: PlanView, conditions: Conditions) -> Placed:
        moves, roots = Moves(), view.graph.roots
        moves.add_steps(roots, None, StepState.READY)
        own = [key for key in roots if view.plan.is_engines(key)]
        if not own:
            return Placed(roots, moves)
        followed, is_over = begin_steps(tx, view, run, own, conditions, moves)
        ready = [key for key in roots if key not in own] if followed.run_state is RunState.RUNNING else []
        return Placed([*ready, *(step.key for step in followed.ready)], moves, is_over)


def start_run(context: EngineContext, request: SubmitRequest, opening: Opening) -> Submitted:
    """Accept ``request`` as a run that begins as ``opening`` says; raises as ``submit`` does."""
    began, existing = time.monotonic(), _find_existing(context, request)
    if existing is not None:
        return existing
    if faults := request.cost_faults(context.settings):
        raise PlanRejected(faults)
    request = _with_child_plans(context, request)
    run_id = RunId(uuid4()) if request.parentage is None else request.parentage.run_id
    view = PlanView(request.plan)
    opening.fill(context, run_id, view)
    written = _Written(request.plan.canonical_json(), _graph_of(run_id, view, request.project))
    try:
        placed, is_paused = with_conditions(
            context, lambda conditions: _in_transaction(context, run_id, view, request, opening, written, conditions)
        )
    except _KeyTaken:
        if request.parentage is not None:  # it is there already, with this content
            return Submitted(run_id, is_existing=True)
        forget_run(context, run_id)
        existing = _find_existing(context, request)
        if existing is None:
            raise LookupError(f"the key {request.idempotency_key!r} is taken by a run that cannot be found") from None
        return existing
    above = request.parentage.ancestors if request.parentage else ()
    trace_submit(context, run_id, opening.action, began, above, request.forked_from)
    if is_paused:
        return Submitted(run_id, is_existing=False)
    sends = first_sends(view, placed.ready)
    is_sent = send_steps(context, run_id, view, sends)
    if len(placed.ready) > len(sends) or placed.moves.has_held:
        context.side_channel.wake()
    if placed.is_over:
        finalize(context, run_id, request.actor)
    return Submitted(run_id, is_existing=False, is_sent=is_sent)


def _with_child_plans(context: EngineContext, request: SubmitRequest) -> SubmitRequest:
    """Look up the stored plans that child runs name. PlanRejected when there is none of a name, or its vars misfit."""
    if request.child_plans is not None:
        return request
    documents = documents_in(request.brought)
    found, faults = resolve_plans(context, request.project, request.plan, documents)
    if faults:
        raise PlanRejected(faults)
    return replace(request, child_plans=found)


def _find_existing(context: EngineContext, request: SubmitRequest) -> Submitted | None:
    if request.idempotency_key is None:
        return None
    with context.database.transaction() as tx:
        existing = runs.find_by_key(tx, request.project, request.idempotency_key)
    if existing is None:
        return None
    if existing.request_sha256 != request.sha256:
        raise IdempotencyConflict(
            request.idempotency_key, stored=existing.plan_fingerprint, submitted=request.plan.fingerprint
        )
    return Submitted(existing.run_id, is_existing=True)


def _in_transaction(
    context: EngineContext,
    run_id: RunId,
    view: PlanView,
    request: SubmitRequest,
    opening: Opening,
    written: _Written,
    conditions: Conditions,
) -> tuple[Placed, bool]:
    """Write the run; returns how it stands, and whether it rests."""
    with context.database.transaction() as tx:
        maintenance = installations.enter(tx)
        if request.parentage is not None:
            hold_parent(tx, request.parentage)
        created_at = _insert_run(tx, run_id, request, written.plan)
        graphs.insert_graph(tx, run_id, written.graph)
        limits.insert_slots(tx, [step.concurrency for step in view.plan.steps if step.concurrency is not None])
        paused = replace(maintenance, at=created_at) if maintenance else None
        run = runs.insert_run_state(tx, run_id, len(view.graph.sinks), created_at, paused)
        placed = opening.place(tx, run, view, conditions)
        if paused is None:
            steps.stamp_sent(tx, [step_id(run_id, key) for key in first_sends(view, placed.ready)])
        placed.moves.add_run(None, RunState.RUNNING)
        record(
            context,
            tx,
            ChainHead(run_id, None, 0, None),
            at=created_at,
            actor=request.actor,
            action=opening.action,
            subject="run",
            moves=placed.moves,
            facts={**_facts(request), **placed.facts, **({"paused": paused.as_json()} if paused else {})},
        )
    return placed, paused is not None


def _insert_run(tx: Connection, run_id: RunId, request: SubmitRequest, document: bytes) -> datetime:
    plan = request.plan
    runs.insert_plan(tx, plan.fingerprint, plan.name, document)
    submission = runs.Submission(
        run_id=run_id,
        project=request.project,
        plan_fingerprint=plan.fingerprint,
        vars=request.vars,
        idempotency_key=request.idempotency_key,
        request_sha256=request.sha256,
        actor=request.actor,
        directive=request.run_directive,
        forked_from=request.forked_from,
        forked_at_step=request.forked_at_step,
        parentage=request.parentage,
        child_plans=request.child_plans,
        mode=request.mode.value,
    )
    created_at = runs.insert_run(tx, submission)
    if created_at is None:
        raise _KeyTaken
    if not request.caps.is_unlimited:
        runs.insert_budget(tx, run_id, request.caps)
    return created_at


def _facts(request: SubmitRequest) -> dict[str, Any]:
    facts = {"plan": request.plan.fingerprint, "steps": len(request.plan.steps), "project": request.project}
    more = {"directive": request.run_directive, "budget": request.caps.model_dump(exclude_none=True)}
    if request.mode is not Mode.AUTO:
        more["mode"] = request.mode.value
    if request.ungated is not None:
        more["ungated_plan"] = request.ungated.fingerprint
    if request.parentage is None:
        more["child_plans"] = dict(request.child_plans or {})
    return facts | {name: value for name, value in more.items() if value}


def _graph_of(run_id: RunId, view: PlanView, project: str) -> graphs.WrittenGraph:
    graph, ids = view.graph, {key: step_id(run_id, key) for key in view.graph.keys}
    sinks = set(graph.sinks)
    fresh = [
        new_step(view, run_id, step.id, position, project=project, needs=len(step.needs), is_sink=step.id in sinks)
        for position, step in enumerate(view.plan.steps)
    ]
    edges = [
        graphs.NewEdge(ids[need], ids[step.id], labels_of(view.plan.step(need), step.id))
        for step in view.plan.steps
        for need in step.needs
    ]
    return graphs.written_graph(fresh, edges)


def begin_steps(
    tx: Connection, view: PlanView, run: runs.LockedRun, keys: Sequence[StepKey], conditions: Conditions, moves: Moves
) -> tuple[Advance, bool]:
    """Begin steps of a new run that the engine decides itself; also says whether the run may be over then."""
    fresh = children.read_fresh(tx, run.run_id, [step_id(run.run_id, key) for key in keys])
    followed = let_go(tx, view, run, fresh, conditions=conditions, moves=moves)
    open_sinks = runs.close_sinks(tx, run, followed.closed_sinks) if followed.closed_sinks else run.open_sinks
    return followed, not open_sinks or followed.run_state is not RunState.RUNNING
