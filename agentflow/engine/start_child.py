"""Start child: make the child run that a held step waits for, or take an earlier one up again. The dispatcher calls it.

Which run it is stands in the step's reason since it is held, so that calling this twice, or again after a crash at any
point, makes one run. What cannot be started fails the step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import JsonValue
from sqlalchemy import Connection

from agentflow.domain import expression
from agentflow.domain.action import RunAction
from agentflow.domain.beginning import Ends
from agentflow.domain.child_run import MAX_DEPTH, Awaited, child_run_id
from agentflow.domain.error import ContentError, InvalidTransition, PlanRejected, ServersUnreachable, TemplateError
from agentflow.domain.fault import Fault
from agentflow.domain.ids import RunId, StepId
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.run_document import templates_in
from agentflow.domain.state import RunState, StepState
from agentflow.domain.stored_json import NotStorable, stored_text
from agentflow.domain.template import Expression, has_expressions, split_template
from agentflow.domain.variable import resolve_vars
from agentflow.domain.wording import listing
from agentflow.engine.child_plans import ChildPlan, open_child
from agentflow.engine.conclude import Held, Verdict, conclude
from agentflow.engine.context import EngineContext, PlanView
from agentflow.engine.evaluate import Conditions
from agentflow.engine.gather import Scope, gather, read_facts
from agentflow.engine.inputs import forget_run, take_inputs
from agentflow.engine.retry import retry
from agentflow.engine.settle_child import settle_child
from agentflow.engine.start_guard import ParentGone, ParentRests
from agentflow.engine.submit import FromTheTop, Placed, SubmitRequest, start_run
from agentflow.storage import child_runs, engine_steps, runs
from agentflow.storage.child_runs import Parentage, WaitingStep
from agentflow.storage.database import UnwritableValue
from agentflow.telemetry import get_logger

log = get_logger(__name__)

VERB = "settle_child"
"""What ends a step that waits for a child run, also one that could not be started."""
MAX_VARS_BYTES = 64 * 1024


class NotStarted(Exception):
    """The child run cannot be made, and could not be the next time either; ``reason`` holds no value of a var."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.sentence)
        self.reason = reason


def start_child(context: EngineContext, step_id: StepId, actor: str) -> RunId | None:
    """Let the child run go that a step waits for; returns it, None where the step waits for none or its run rests."""
    with context.database.transaction() as tx:
        waiting = child_runs.read_waiting(tx, step_id)
        if waiting is None:
            return None
        plan = context.plans.get(tx, waiting.plan_fingerprint)
    if waiting.child is not None and waiting.child.is_final:
        return _go_on(context, step_id, waiting, actor)
    if waiting.child is not None:
        return _note(context, step_id, waiting)
    try:
        request, source = _request(context, step_id, waiting, plan)
        return _make(context, request, source)
    except (ParentRests, ParentGone):  # one that rests may be cancelled yet; else all of it is made anew
        _forget(context, waiting.awaited.run_id)
        return None
    except PlanRejected as error:
        reason = _refused(error.faults)
    except NotStarted as error:
        reason = error.reason
    except UnwritableValue:  # its text may quote the value
        reason = _refusal("Postgres cannot store a value of it")
    except ServersUnreachable:  # it may be there
        raise
    except Exception:
        _forget(context, waiting.awaited.run_id)
        raise
    _fail(context, step_id, waiting, actor, reason)
    return None


@dataclass(frozen=True, slots=True)
class _FromAParent(FromTheTop):
    """Begins as any run, with what its parent or its stored plan has for it."""

    source: RunId | str = ""
    action: str = "start_child"

    def fill(self, context: EngineContext, run_id: RunId, view: PlanView) -> None:
        if not take_inputs(context, self.source, run_id, view.plan):
            raise NotStarted(
                Reason(ReasonCode.CONTENT, {"problem": "what its plan brings along is not there any more"})
            )

    def place(self, tx: Connection, run: runs.LockedRun, view: PlanView, conditions: Conditions) -> Placed:
        placed, above = FromTheTop.place(self, tx, run, view, conditions), self.request.parentage
        if above is None:
            return placed
        facts = {"parent": str(above.parent_run), "step": above.parent_step}
        return Placed(placed.ready, placed.moves, placed.is_over, facts)


def _make(context: EngineContext, request: SubmitRequest, source: RunId | str) -> RunId:
    return start_run(context, request, _FromAParent(request, source=source)).run_id


def _request(
    context: EngineContext, step_id: StepId, waiting: WaitingStep, plan: PlanView
) -> tuple[SubmitRequest, RunId | str]:
    """The child as a submission, and who has what it brings along. Raises NotStarted."""
    action = plan.plan.step(waiting.key).action
    if not isinstance(action, RunAction):
        raise TypeError(f"{waiting.key} runs no plan")
    above = (*waiting.ancestors, waiting.run_id)
    if len(above) > MAX_DEPTH:
        raise NotStarted(_refusal(f"child runs go {MAX_DEPTH} deep at most"))
    child = _open(context, waiting, action)
    given = _given(context, waiting, plan, action)
    values, faults = resolve_vars(child.plan, given)
    if faults:
        raise NotStarted(_refused(faults))
    with context.database.transaction() as tx:
        caps_above = tuple(each.budget for each in child_runs.read_ancestors(tx, above))
    request = SubmitRequest(
        plan=child.plan,
        vars=values,
        project=waiting.project,
        actor=waiting.actor,
        content={},
        files={},
        budget=action.budget,
        directive=waiting.directive,
        child_plans=waiting.child_plans,
        parentage=Parentage(waiting.awaited.run_id, waiting.run_id, waiting.key, step_id, above),
        caps_above=caps_above,
    )
    return request, child.owner


def _open(context: EngineContext, waiting: WaitingStep, action: RunAction) -> ChildPlan:
    try:
        child = open_child(context, waiting.run_id, action, waiting.child_plans)
    except ContentError:
        raise NotStarted(
            Reason(ReasonCode.CONTENT, {"problem": "the document of its plan is not there any more"})
        ) from None
    if child is None:
        raise NotStarted(_refusal("nothing says which plan its name stands for"))
    return child


def _given(context: EngineContext, waiting: WaitingStep, plan: PlanView, action: RunAction) -> dict[str, JsonValue]:
    """The values of the child's vars, from what the steps before it left."""
    texts = [text for value in action.vars.values() for text in templates_in(value)]
    references = frozenset().union(*(expression.references(text) for text in texts))
    scope = Scope(plan.plan, waiting.key)
    try:
        with context.database.transaction() as tx:
            facts = read_facts(tx, waiting.run_id, scope, references)
        values = gather(context, waiting.run_id, references, facts, scope=scope, variables=waiting.vars)
        given = {name: _rendered(value, values) for name, value in action.vars.items()}
    except TemplateError as error:
        raise NotStarted(Reason(ReasonCode.TEMPLATE, {"problem": str(error)})) from error
    except ContentError as error:
        raise NotStarted(Reason(ReasonCode.CONTENT, {"problem": str(error)})) from error
    _check_size(given)
    return given


def _check_size(given: Mapping[str, JsonValue]) -> None:
    size = 0
    for name, value in given.items():
        try:
            size += len(stored_text(value))
        except NotStorable as problem:
            raise NotStarted(_refusal(f"its var {name} {problem}")) from None
    if size > MAX_VARS_BYTES:
        raise NotStarted(_refusal(f"its vars come to more than {MAX_VARS_BYTES} characters: hand a path over"))


def _rendered(value: JsonValue, values: Mapping[str, Any]) -> JsonValue:
    """Fill in templates; a text that is one expression and nothing else becomes its value, of whatever kind."""
    match value:
        case str() if has_expressions(value):
            pieces = split_template(value)
            if len(pieces) == 1 and isinstance(pieces[0], Expression):
                return _plain(expression.evaluate(pieces[0].source, values))
            return expression.render(value, values)
        case list():
            return [_rendered(item, values) for item in value]
        case dict():
            return {key: _rendered(item, values) for key, item in value.items()}
        case _:
            return value


def _plain(value: Any) -> JsonValue:
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Mapping():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple():
            return [_plain(item) for item in value]
        case _:
            raise TemplateError("a var of the child run is no plain data")


def _refused(faults: tuple[Fault, ...]) -> Reason:
    """Name the faults without what they quote: a value may be content."""
    told = [f"{fault.path[-1]} ({fault.code})" if fault.path else fault.code for fault in faults]
    return _refusal(f"its plan or its vars have faults: {listing(told)}")


def _refusal(problem: str) -> Reason:
    return Reason(ReasonCode.REFUSED, {"problem": problem})


def _fail(context: EngineContext, step_id: StepId, waiting: WaitingStep, actor: str, reason: Reason) -> None:
    """Fail the step, unless the child is there after all."""

    def decide(tx: Connection, held: Held) -> Verdict | None:
        now = child_runs.read_waiting(tx, held.step.id)
        if now is None or now.awaited != waiting.awaited or now.child is not None:
            return None
        return Verdict(Ends(StepState.FAILED, reason))

    if conclude(context, step_id, actor, VERB, decide) is not None:
        _forget(context, waiting.awaited.run_id)


def _forget(context: EngineContext, run_id: RunId) -> None:
    """Remove what was put into the store for a run that is not made after all; not that of one that is there."""
    with context.database.transaction() as tx:
        if runs.lock(tx, run_id) is not None:
            return
    forget_run(context, run_id)


def _go_on(context: EngineContext, step_id: StepId, waiting: WaitingStep, actor: str) -> RunId | None:
    """Take an ended child run up again, or a new one where there is nothing in it to take up; or see that it ended."""
    child = waiting.awaited.run_id
    if waiting.child is not None and waiting.child.round >= waiting.awaited.round:
        settle_child(context, child, actor)
        return child
    try:
        retry(context, child, actor, facts={"parent": str(waiting.run_id), "step": waiting.key})
    except (InvalidTransition, ContentError) as error:
        log.info("child_not_taken_up", run_id=str(child), error=type(error).__name__)
        _await_new(context, step_id, waiting.awaited, actor)
        return None
    return _note(context, step_id, waiting)


def _await_new(context: EngineContext, step_id: StepId, awaited: Awaited, actor: str) -> None:
    """Let the step wait for a new child run instead of one that cannot be taken up again."""

    def decide(tx: Connection, held: Held) -> Verdict | None:
        now = child_runs.read_waiting(tx, held.step.id)
        if now is None or now.awaited != awaited or now.child is None or not now.child.is_final:
            return None
        if now.child.round >= awaited.round:
            return None
        made, _ = child_runs.read_last(tx, now.run_id, [now.key])[now.key]
        new = Awaited(child_run_id(held.step.id, made + 1), 1)
        engine_steps.tell_held(tx, held.step.id, new.reason, held.run.at)
        return Verdict(None, {"awaits": str(new.run_id), "instead_of": str(awaited.run_id)})

    conclude(context, step_id, actor, VERB, decide)


def _note(context: EngineContext, step_id: StepId, waiting: WaitingStep) -> RunId | None:
    """Note that the child run is there; whoever ends it tells the step."""
    with context.database.transaction() as tx:
        run = runs.lock(tx, waiting.run_id, is_shared=True)
        if run is None or run.state is not RunState.RUNNING:
            return None
        is_there = child_runs.take_waiting(tx, step_id, waiting.awaited.run_id)
    return waiting.awaited.run_id if is_there else None
