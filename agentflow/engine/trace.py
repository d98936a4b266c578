"""Trace: tell OpenTelemetry what became of runs, messages, attempts and gates, after the commit that says so.

Spans are made of what was written, with its times, not held open around the work: so the attempt of a worker that was
killed is told by whoever ends it, and what one process tells fits to what another does. Whatever goes wrong here is
logged and nothing else. Ids, codes, counts and labels of the plan only.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import wraps
from typing import Concatenate, ParamSpec
from uuid import UUID, uuid5

from agentflow.broker.canvas import Bell
from agentflow.domain.child import plan_id
from agentflow.domain.gate import GateState
from agentflow.domain.ids import AttemptId, RunId, StepId, StepKey
from agentflow.domain.outcome import ATTEMPT_STATES, AttemptOutcome, Failed, Lost, TimedOut
from agentflow.domain.state import RunState
from agentflow.domain.transition import NextStep
from agentflow.engine.context import EngineContext, PlanView
from agentflow.engine.trace_calls import call_span
from agentflow.executors.base import CallRecord
from agentflow.storage import gates, traces
from agentflow.storage.attempts import HeldAttempt
from agentflow.telemetry import get_logger
from agentflow.telemetry.spans import HEADER, Kind, Span, SpanRef, Value

log = get_logger(__name__)

KNOWN_RUNS = 1000
SYSTEM = "celery"
P = ParamSpec("P")


@dataclass(frozen=True, slots=True)
class Sending:
    """Messages on their way: the span that will tell of them, and the header that they carry."""

    ref: SpanRef
    header: str
    began: float


@dataclass(frozen=True, slots=True)
class EndedAttempt:
    """An attempt that was settled or rescued, as it was written."""

    held: HeldAttempt
    outcome: AttemptOutcome
    then: NextStep
    at: datetime


@dataclass(frozen=True, slots=True)
class Work:
    """What only the worker knows of an attempt.

    ``origin`` is the header of the message that it answered, ``began_after_seconds`` when its work began, counted from
    the claim.
    """

    origin: str | None = None
    call: CallRecord | None = None
    began_after_seconds: float = 0.0


def _in_peace(tell: Callable[Concatenate[EngineContext, P], None]) -> Callable[Concatenate[EngineContext, P], None]:
    """Tell only where tracing is on, and never fail for it: what is told of is committed."""

    @wraps(tell)
    def told(context: EngineContext, /, *args: P.args, **kwargs: P.kwargs) -> None:
        if context.tracing.is_on:
            try:
                tell(context, *args, **kwargs)
            except Exception as error:  # noqa: BLE001 - no span is worth the verb
                log.warning("span_not_told", error=type(error).__name__)

    return told


@_in_peace
def trace_submit(
    context: EngineContext, run_id: RunId, verb: str, began: float, above: Sequence[RunId], forked_from: RunId | None
) -> None:
    """Tell that a run was accepted, with links to who asked for it and to the run that it was forked from."""
    outermost = _know(context, run_id, above[0] if above else run_id)
    run = SpanRef.of(outermost, run_id)
    links = [context.tracing.caller(run)] if not above else []
    if forked_from is not None:
        links.append(_span_of(context, forked_from))
    _tell(
        context,
        Span(
            SpanRef.new(run.trace_id),
            run,
            verb,
            *_until_now(began),
            attributes={"agentflow.run.id": str(run_id), "agentflow.run.forked_from": _text(forked_from)},
            links=tuple(link for link in links if link is not None),
        ),
    )


@_in_peace
def trace_run(context: EngineContext, run_id: RunId) -> None:
    """Tell of a run that ended. One that was taken up again ends again: then a span below the first tells of it all."""
    with context.database.transaction() as tx:
        run = traces.read(tx, run_id)
    if run is None or run.ended_at is None:
        return
    first = SpanRef.of(run.outermost, run_id)
    ref, parent = first, None if run.parent_run is None else SpanRef.of(run.outermost, run.parent_run)
    if run.round > 1:
        ref, parent = SpanRef.of(run.outermost, uuid5(run_id, f"round {run.round}")), first
    attributes: dict[str, Value | None] = {
        "agentflow.run.id": str(run_id),
        "agentflow.run.state": run.state,
        "agentflow.run.round": run.round,
        "agentflow.plan.name": run.plan,
        "agentflow.project": run.project,
        "agentflow.parent.run.id": _text(run.parent_run),
        "agentflow.parent.step.id": run.parent_step,
        "agentflow.reason.code": run.code,
    }
    error = (run.code or run.state) if run.state == RunState.FAILED else None
    _tell(
        context,
        Span(ref, parent, f"run {run.plan}", run.created_at, run.ended_at, attributes=attributes, error=error),
    )


def begin_sending(context: EngineContext, run_id: RunId) -> Sending | None:
    """Name the span of messages before they go out, since they carry its name; None where nothing is traced."""
    named = _named(context, run_id, lambda run: SpanRef.new(run.trace_id))
    return None if named is None else Sending(*named, time.monotonic())


def trace_environment(context: EngineContext, run_id: RunId, attempt_id: AttemptId) -> dict[str, str]:
    """The variable that names the span of an attempt to the command that it starts; none where nothing is traced."""
    named = _named(context, run_id, lambda run: _of(run, attempt_id))
    return {} if named is None else {HEADER.upper(): named[1]}


@_in_peace
def trace_sending(
    context: EngineContext, run_id: RunId, sending: Sending | None, bells: Sequence[Bell], error: str | None = None
) -> None:
    """Tell that messages were sent, one for each of ``bells``, or why not."""
    if sending is None or not bells:
        return
    queues, is_one = {bell.queue for bell in bells}, len(bells) == 1
    queue = bells[0].queue if len(queues) == 1 else None
    attributes: dict[str, Value | None] = {
        "agentflow.run.id": str(run_id),
        "agentflow.step.id": bells[0].key if is_one else None,
        "messaging.system": SYSTEM,
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": queue,
        "messaging.message.id": str(bells[0].step_id) if is_one else None,
        "messaging.batch.message_count": None if is_one else len(bells),
    }
    run = _span_of(context, run_id)
    name = "send" if queue is None else f"send {queue}"
    began, ended = _until_now(sending.began)
    _tell(context, Span(sending.ref, run, name, began, ended, Kind.PRODUCER, attributes, error=error))


@_in_peace
def trace_attempt(context: EngineContext, run_id: RunId, plan: PlanView, ended: EndedAttempt, work: Work) -> None:
    """Tell of an attempt that ended, with a link to the message that it answered, and of the call that it made."""
    held, run = ended.held, _span_of(context, run_id)
    ref = _of(run, held.attempt_id)
    step, origin = plan.plan.step(held.key), SpanRef.read(work.origin)
    attributes = _of_attempt(run_id, plan, ended)
    code = attributes["agentflow.reason.code"] or attributes["agentflow.outcome"]
    span = Span(
        ref,
        run,
        f"step {plan_id(held.key)}",
        held.started_at,
        ended.at,
        Kind.CONSUMER,
        attributes,
        () if origin is None else (origin,),
        str(code) if isinstance(ended.outcome, Failed | TimedOut | Lost) else None,
    )
    began = held.started_at + timedelta(seconds=work.began_after_seconds)
    called = call_span(ref, step.action, work.call, began)
    if called is not None:
        _tell(context, called)
    _tell(context, span)


def _of_attempt(run_id: RunId, plan: PlanView, ended: EndedAttempt) -> dict[str, Value | None]:
    held, action = ended.held, plan.plan.step(ended.held.key).action.type
    reason = getattr(ended.outcome, "reason", None)
    return {
        "agentflow.run.id": str(run_id),
        "agentflow.step.id": held.key,
        "agentflow.step.state": ended.then.state.value,
        "agentflow.attempt.number": held.number,
        "agentflow.action": action,
        "agentflow.outcome": ATTEMPT_STATES[type(ended.outcome)].value,
        "agentflow.reason.code": None if reason is None else reason.code.value,
        "process.exit.code": getattr(ended.outcome, "exit_code", None) if action == "subprocess" else None,
        "messaging.system": SYSTEM,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": plan.queue_of(held.key),
        "messaging.message.id": str(held.step_id),
        "messaging.client.id": held.worker,
    }


@_in_peace
def trace_gate(context: EngineContext, run_id: RunId, step_id: StepId, key: StepKey) -> None:
    """Tell of the gate of a held step, if it has one that is closed: how long people took, and how it ended."""
    with context.database.transaction() as tx:
        gate = gates.read(tx, step_id)
    if gate is None or gate.state is GateState.OPEN or gate.decided_at is None:
        return
    run = _span_of(context, run_id)
    attributes: dict[str, Value | None] = {
        "agentflow.run.id": str(run_id),
        "agentflow.step.id": key,
        "agentflow.gate.kind": gate.kind.value,
        "agentflow.gate.state": gate.state.value,
        "agentflow.gate.decisions": len(gate.decisions),
    }
    ref, name = _of(run, gate.id), f"gate {plan_id(key)}"
    _tell(context, Span(ref, run, name, gate.opened_at, gate.decided_at, attributes=attributes))


def _tell(context: EngineContext, span: Span) -> None:
    if span.error is not None:
        span.attributes["error.type"] = span.error
    context.tracing.tell(span)


def _of(run: SpanRef, owner: UUID) -> SpanRef:
    """The span of an attempt or a gate in the trace of its run."""
    return SpanRef.of(UUID(int=run.trace_id), owner)


def _named(context: EngineContext, run_id: RunId, name: Callable[[SpanRef], SpanRef]) -> tuple[SpanRef, str] | None:
    """A span of a run that others are told of before it is, and its header; None where nothing is traced.

    What goes wrong is logged, as after the work: a sampler or a processor may be of the program around us.
    """
    if not context.tracing.is_on:
        return None
    try:
        ref = name(_span_of(context, run_id))
        return ref, ref.header(is_sampled=context.tracing.is_sampled(ref))
    except Exception as error:  # noqa: BLE001 - no span is worth the verb
        log.warning("span_not_told", error=type(error).__name__)
        return None


def _span_of(context: EngineContext, run_id: RunId) -> SpanRef:
    """The span of a run, in the trace of the outermost run above it."""
    outermost = context.tracing.outermost.get(run_id)
    if outermost is None:
        with context.database.transaction() as tx:
            run = traces.read(tx, run_id)
        outermost = _know(context, run_id, run_id if run is None else run.outermost)
    return SpanRef.of(outermost, run_id)


def _know(context: EngineContext, run_id: RunId, outermost: UUID) -> UUID:
    known = context.tracing.outermost
    if len(known) >= KNOWN_RUNS:
        known.clear()
    known[run_id] = outermost
    return outermost


def _until_now(began: float) -> tuple[datetime, datetime]:
    ended_at = datetime.now(UTC)
    return ended_at - timedelta(seconds=time.monotonic() - began), ended_at


def _text(identity: UUID | None) -> str | None:
    return None if identity is None else str(identity)
