"""Execute: one doorbell from claim to settle, as a pipe of small steps.

claim -> prepare -> perform -> judge -> keep the files -> settle. Returns a value from which the Celery task knows what
to tell Celery; nothing here knows Celery's exceptions.
"""

from __future__ import annotations

import mimetypes
import os
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from agentflow.content.store import Address
from agentflow.domain.error import ContentError, ServersUnreachable
from agentflow.domain.ids import RunId, StepId, StepKey
from agentflow.domain.outcome import AttemptOutcome, ClaimRefusal, Failed, Released, Succeeded
from agentflow.domain.plan import Step
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.state import AttemptState
from agentflow.engine.admit import Admission, admit, exhausted, reporting
from agentflow.engine.answers import TEXT, forget_answer, keep_answer
from agentflow.engine.claim import Claimed, claim
from agentflow.engine.context import EngineContext
from agentflow.engine.gather import artifact_name
from agentflow.engine.heartbeat import LeaseKeeper
from agentflow.engine.judge import judge
from agentflow.engine.live_output import shown_live
from agentflow.engine.prepare import Unprepared, has_scratch, prepare
from agentflow.engine.settle import ClaimLost, Settled, Settlement, settle
from agentflow.executors.base import CallRecord, Lifeline, Performance, executor_for
from agentflow.executors.command import Ended
from agentflow.executors.scratch import scratch_directory
from agentflow.storage import attempts
from agentflow.storage.attempts import Artifact
from agentflow.storage.database import ConflictingWrite, UnwritableValue
from agentflow.telemetry import bound, get_logger

log = get_logger(__name__)

RETRY_SETTLE_SECONDS = 1.0
NOT_SENT = CallRecord("", "", was_sent=False)
"""Of an attempt that has not begun its work yet."""


@dataclass(frozen=True, slots=True)
class Doorbell:
    """What a message says: look at this step; and what it would pass its chain on to."""

    run_id: RunId
    key: StepKey
    chain_next: StepId | None = None
    origin: str | None = None
    """Its traceparent."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The step was not this message's to take."""

    refusal: ClaimRefusal


@dataclass(frozen=True, slots=True)
class Executed:
    """The attempt ran and was settled, or its claim was lost on the way."""

    settled: Settled | ClaimLost
    outcome: AttemptOutcome


def execute(context: EngineContext, keeper: LeaseKeeper, doorbell: Doorbell, worker: str) -> Refused | Executed:
    """Answer one doorbell."""
    with bound(run_id=doorbell.run_id, step_id=doorbell.key):
        asked_at = time.monotonic()
        try:
            claimed = claim(context, doorbell.run_id, doorbell.key, worker)
        except ServersUnreachable as error:  # if the claim was committed all the same, its lease ends it
            log.warning("claim_not_made", error=str(error))
            return Refused(ClaimRefusal.SERVERS_AWAY)
        if isinstance(claimed, ClaimRefusal):
            log.info("claim_refused", refusal=claimed.value)
            return Refused(claimed)
        with (
            bound(attempt=claimed.number),
            keeper.keeping(claimed.attempt_id, claimed.claim_token, asked_at) as lifeline,
        ):
            return _attempt(context, claimed, doorbell, lifeline, worker)


@contextmanager
def _scratch(claimed: Claimed) -> Iterator[Path]:
    if not has_scratch(claimed.plan.plan.step(claimed.key).action):
        yield Path(os.devnull)
        return
    with scratch_directory() as scratch:
        yield scratch


@dataclass(frozen=True, slots=True)
class _Worked:
    outcome: AttemptOutcome
    artifacts: Sequence[Artifact] = ()
    signal: int | None = None
    call: CallRecord | None = None
    began_after_seconds: float = 0.0


def _attempt(context: EngineContext, claimed: Claimed, doorbell: Doorbell, lifeline: Lifeline, worker: str) -> Executed:
    worked = _work(context, claimed, lifeline)
    lifeline.is_work_done = True
    settlement = Settlement(
        run_id=claimed.run_id,
        step_id=claimed.step_id,
        plan=claimed.plan,
        outcome=worked.outcome,
        actor=f"worker:{worker}",
        is_sink=claimed.is_sink,
        signal=worked.signal,
        artifacts=worked.artifacts,
        chain_next=doorbell.chain_next,
        call=worked.call,
        origin=doorbell.origin,
        began_after_seconds=worked.began_after_seconds,
    )
    settled = _settle(context, settlement, claimed, lifeline)
    if isinstance(settled, ClaimLost):
        log.warning("settle_refused", outcome=type(worked.outcome).__name__)
        _withdraw_answer(context, claimed)
    else:
        log.info("attempt_settled", outcome=type(worked.outcome).__name__, then=settled.then.state.value)
    return Executed(settled, worked.outcome)


def _withdraw_answer(context: EngineContext, claimed: Claimed) -> None:
    """Take back the answer of an attempt that others ended.

    A settle is refused too whose commit took place and only its reply was lost: then the answer is needed. What cannot
    be known now is left to the end of the run.
    """
    try:
        with context.database.transaction() as tx:
            state = attempts.read_state(tx, claimed.attempt_id)
    except (ServersUnreachable, ConflictingWrite) as error:
        log.warning("answer_left_to_run_end", error=str(error))
        return
    if state not in (AttemptState.RUNNING, AttemptState.SUCCEEDED):
        forget_answer(context.store, _address(claimed, TEXT), claimed.plan.plan.step(claimed.key))


def _work(context: EngineContext, claimed: Claimed, lifeline: Lifeline) -> _Worked:
    """Do everything between claim and settle; whatever goes wrong in it is an outcome, so that it is settled."""
    step = claimed.step
    call: CallRecord | None = NOT_SENT
    was_started, claimed_at = False, time.monotonic()
    try:
        with _scratch(claimed) as scratch:
            assignment = prepare(context, claimed, scratch)
            executor = executor_for(step.action.type)
            admission = admit(context, claimed, assignment, executor)
            if not isinstance(admission, Admission):
                return _Worked(admission, call=call)
            call, was_started = None, True  # from here on it may have been sent
            with reporting(context, admission.trial) as report:
                began_after_seconds = time.monotonic() - claimed_at
                with shown_live(context.store, _address(claimed, "stdout"), scratch):
                    performance = executor.perform(admission.assignment, lifeline)
                call = performance.call
                report(performance)
            outcome = _judged(step, performance, admission, lifeline)
            kept = () if isinstance(outcome, Released) else _keep(context, claimed, performance, outcome)
            return _Worked(outcome, kept, performance.signal, call, began_after_seconds)
    except Unprepared as problem:
        return _Worked(Failed(problem.reason, is_permanent=True))
    except (ServersUnreachable, ConflictingWrite) as error:
        log.warning("attempt_given_back", error=type(error).__name__, was_started=was_started)
        return _Worked(Released(Reason(ReasonCode.SERVERS_AWAY), was_started=was_started), call=call)
    except ContentError as error:
        return _Worked(Failed(Reason(ReasonCode.CONTENT, {"problem": str(error)})), call=call)
    except Exception as error:  # noqa: BLE001 - an executor may be a third party's: its bug fails the step, no more
        # Its frames, not its words: those may quote what a model said.
        frames = "".join(traceback.format_tb(error.__traceback__))
        log.error("executor_failed", error=type(error).__name__, frames=frames)  # noqa: TRY400 - as said
        return _Worked(Failed(Reason(ReasonCode.EXECUTOR_ERROR, {"error": type(error).__name__})), call=call)


def _judged(step: Step, performance: Performance, admission: Admission, lifeline: Lifeline) -> AttemptOutcome:
    if performance.ended is Ended.TIMED_OUT and admission.cut_by is not None:
        return exhausted([admission.cut_by], was_started=True)
    return judge(step, performance, lifeline.stop_reason)


def _keep(
    context: EngineContext, claimed: Claimed, performance: Performance, outcome: AttemptOutcome
) -> list[Artifact]:
    kept = []
    if performance.call is not None and isinstance(outcome, Succeeded):
        step = claimed.plan.plan.step(claimed.key)
        kept += keep_answer(context.store, _address(claimed, TEXT), step, performance.call)
    for name, stream in (("stdout", performance.stdout), ("stderr", performance.stderr)):
        if stream is None:
            continue
        context.store.adopt(_address(claimed, name), stream.path)
        kept.append(
            Artifact(name, name, stream.bytes_kept, stream.bytes_seen, stream.sha256, "text/plain", stream.is_cut)
        )
    adopted: dict[Path, Address] = {}
    for found in performance.artifacts:
        address = _address(claimed, artifact_name(found.name))
        if found.path in adopted:  # one file under two names
            context.store.put_file(address, context.store.local_path(adopted[found.path]))
        else:
            context.store.adopt(address, found.path)
            adopted[found.path] = address
        media_type = mimetypes.guess_type(found.name)[0] or "application/octet-stream"
        kept.append(Artifact(found.name, "file", found.bytes, found.bytes, found.sha256, media_type, is_cut=False))
    if performance.refusals:
        codes = ",".join(sorted(performance.refusals))
        log.warning("artifacts_refused", refused=sum(performance.refusals.values()), codes=codes)
    return kept


def _address(claimed: Claimed, name: str) -> Address:
    return Address(str(claimed.run_id), name, claimed.key, claimed.number)


def _settle(
    context: EngineContext, settlement: Settlement, claimed: Claimed, lifeline: Lifeline
) -> Settled | ClaimLost:
    """Settle, again and again while Postgres is away: past the end of the lease too, unless the worker is to stop.

    Whether somebody else has the step by then only Postgres knows, and its dispatcher ends no lease before it has had a
    lease's length of contact. The fence makes a repetition safe: if the commit that seemed to fail took place, or the
    attempt was rescued, the next try is refused. An
    outcome that cannot be written, such as a result with a text that Postgres has no way to store, fails the step: left
    unsettled, its lease would lapse and the same would happen again.
    """
    while True:
        try:
            return settle(context, settlement, claimed.claim_token)
        except (ServersUnreachable, ConflictingWrite) as error:
            if lifeline.is_lease_lost and lifeline.is_drained:
                return ClaimLost()
            log.warning("settle_delayed", error=str(error))
            threading.Event().wait(RETRY_SETTLE_SECONDS)  # nothing signals that Postgres is back
        except (UnwritableValue, UnicodeError) as error:
            if isinstance(settlement.outcome, Failed) and settlement.outcome.is_permanent:
                raise
            log.error("outcome_refused", error=type(error).__name__)  # noqa: TRY400 - the words may hold the value
            reason = Reason(ReasonCode.EXECUTOR_ERROR, {"error": type(error).__name__})
            # What a provider said that it used may be what cannot be written: then it is estimated.
            call = settlement.call and replace(settlement.call, usage=None)
            settlement = replace(settlement, outcome=Failed(reason, is_permanent=True), artifacts=(), call=call)
