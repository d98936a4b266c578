"""Begin: what the engine's own steps come to, evaluated outside of any transaction.

One function an action; each returns a Beginning, which advance.py writes. What they evaluate may be content: it goes
into no reason and no row, but for the labels of a plan's closed set.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from typing import Any

from agentflow.domain import expression
from agentflow.domain.action import ApprovalAction, DecisionAction, GroupAction, RunAction, WaitAction
from agentflow.domain.beginning import Beginning, Ends, Holds
from agentflow.domain.child import is_item
from agentflow.domain.decision import RoutingError, chosen_label
from agentflow.domain.error import ContentError, TemplateError
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.moment import parse_moment
from agentflow.domain.plan import Step
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.reference import Reference
from agentflow.domain.state import StepState
from agentflow.engine.context import EngineContext
from agentflow.engine.items import keep_items
from agentflow.telemetry import get_logger

log = get_logger(__name__)


def sources_of(step: Step, *, is_item: bool = False) -> frozenset[Reference]:
    """What the engine reads to begin a step, or one item of a foreach."""
    return frozenset().union(*(expression.inspect_template(text).references for text in _texts(step, is_item=is_item)))


def _texts(step: Step, *, is_item: bool) -> Iterator[str]:
    if step.foreach is not None and not is_item:
        if isinstance(step.foreach.items, str):
            yield f"{{{{ {step.foreach.items} }}}}"
        return
    match step.action:
        case DecisionAction(on=on):
            yield f"{{{{ {on} }}}}"
        case WaitAction(until=str(until)):
            yield until
        case _:  # the vars of a child run are read when it starts
            return


def begin(
    context: EngineContext, run_id: RunId, key: StepKey, step: Step, read: Callable[[], Mapping[str, Any]]
) -> Beginning:
    """Evaluate what the engine's step ``key`` begins as, from what ``read`` gathers; what goes wrong fails the step."""
    try:
        return _begun(context, run_id, key, step, read())
    except TemplateError as error:
        return Ends(StepState.FAILED, Reason(ReasonCode.TEMPLATE, {"problem": str(error)}))
    except ContentError as error:
        return Ends(StepState.FAILED, Reason(ReasonCode.CONTENT, {"problem": str(error)}))
    except Exception as error:  # whatever it is, it must not keep the verb from being recorded
        log.exception("step_not_begun", step_id=key)
        return Ends(StepState.FAILED, Reason(ReasonCode.EXECUTOR_ERROR, {"error": type(error).__name__}))


def _begun(context: EngineContext, run_id: RunId, key: StepKey, step: Step, values: Mapping[str, Any]) -> Beginning:
    if step.foreach is not None and not is_item(key):
        return keep_items(context, run_id, key, step.foreach, values)
    match step.action:
        case DecisionAction():
            return _decide(step.action, values)
        case WaitAction():
            return _wait(step.action, values)
        case ApprovalAction(gate=terms):
            message = expression.render(terms.message, values)
            return Holds(Reason(ReasonCode.AWAITS_DECISION), gate=terms.model_copy(update={"message": message}))
        case RunAction():
            return Holds(Reason(ReasonCode.AWAITS_RUN), due_seconds=0)
        case GroupAction():  # a join: between two waves
            return Ends(StepState.SUCCEEDED)
        case _:
            raise LookupError(f"no engine step: {step.action.type}")


def _decide(action: DecisionAction, values: Mapping[str, Any]) -> Ends:
    try:
        label = chosen_label(expression.evaluate(action.on, values), action.cases, action.default, action.fail)
    except RoutingError as error:
        return Ends(StepState.FAILED, Reason(ReasonCode.NO_LABEL, {"code": error.code, "problem": str(error)}))
    return Ends(StepState.SUCCEEDED, choice=label)


def _wait(action: WaitAction, values: Mapping[str, Any]) -> Holds:
    if action.event is not None:
        return Holds(
            Reason(ReasonCode.AWAITS_SIGNAL, {"event": action.event}),
            due_seconds=action.timeout_seconds,
            signal=action.event,
        )
    if action.for_seconds is not None:
        return Holds(Reason(ReasonCode.AWAITS_TIME), due_seconds=action.for_seconds)
    return Holds(Reason(ReasonCode.AWAITS_TIME), due_at=_moment(expression.render(action.until or "", values)))


def _moment(text: str) -> datetime:
    try:
        return parse_moment(text)
    except ValueError as error:
        raise TemplateError(f"until {error}") from None
