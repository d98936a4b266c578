"""Execute: one doorbell from claim to settle, as a pipe of small steps.

claim -> prepare -> perform -> judge -> keep the files -> settle. Returns a value from which the Celery task knows what
to tell Celery; nothing here knows Celery's exceptions.
"""

from __future__ import annotations

import mimetypes
import os
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from agentflow.content.store import Address
from agentflow.domain.error import ContentError, ServersUnreachable
from agentflow.domain.ids import RunId, StepId, StepKey
from agentflow.domain.outcome import AttemptOutcome, ClaimRefusal, Failed, Released
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.engine.claim import Claimed, claim
from agentflow.engine.context import EngineContext
from agentflow.engine.gather import artifact_name
from agentflow.engine.heartbeat import LeaseKeeper
from agentflow.engine.judge import judge
from agentflow.engine.prepare import Unprepared, has_work_directory, prepare
from agentflow.engine.settle import ClaimLost, Settled, Settlement, settle
from agentflow.executors.base import Lifeline, Performance, StopReason, executor_for
from agentflow.storage.attempts import Artifact
from agentflow.telemetry import bound, get_logger

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Doorbell:
    """What a message says: look at this step; and what it would pass its chain on to."""

    run_id: RunId
    key: StepKey
    chain_next: StepId | None = None


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
            _scratch(claimed) as scratch,
        ):
            return _attempt(context, claimed, doorbell, lifeline, scratch, worker)


@contextmanager
def _scratch(claimed: Claimed) -> Iterator[Path]:
    if not has_work_directory(claimed.plan.plan.step(claimed.key).action):
        yield Path(os.devnull)
        return
    with tempfile.TemporaryDirectory(prefix="agentflow-", ignore_cleanup_errors=True) as scratch:
        yield Path(scratch)


def _attempt(
    context: EngineContext, claimed: Claimed, doorbell: Doorbell, lifeline: Lifeline, scratch: Path, worker: str
) -> Executed:
    performance, outcome = _perform(context, claimed, lifeline, scratch)
    artifacts: Sequence[Artifact] = ()
    if performance is not None and not isinstance(outcome, Released):
        try:
            artifacts = _keep(context, claimed, performance)
        except ContentError as error:
            outcome = Failed(Reason(ReasonCode.CONTENT, {"problem": str(error)}))
    settlement = Settlement(
        run_id=claimed.run_id,
        step_id=claimed.step_id,
        plan=claimed.plan,
        outcome=outcome,
        actor=f"worker:{worker}",
        is_sink=claimed.is_sink,
        signal=performance.signal if performance else None,
        artifacts=artifacts,
        chain_next=doorbell.chain_next,
    )
    settled = _settle(context, settlement, claimed, lifeline)
    if isinstance(settled, ClaimLost):
        log.warning("settle_refused", outcome=type(outcome).__name__)
    else:
        log.info("attempt_settled", outcome=type(outcome).__name__, then=settled.then.state.value)
    return Executed(settled, outcome)


def _perform(
    context: EngineContext, claimed: Claimed, lifeline: Lifeline, scratch: Path
) -> tuple[Performance | None, AttemptOutcome]:
    step = claimed.plan.plan.step(claimed.key)
    try:
        assignment = prepare(context, claimed, scratch)
        performance = executor_for(step.action.type).perform(assignment, lifeline)
        return performance, judge(step, performance, lifeline.stop_reason)
    except Unprepared as problem:
        return None, Failed(problem.reason, is_permanent=True)
    except ServersUnreachable:
        return None, Released(Reason(ReasonCode.SERVERS_AWAY))
    except Exception as error:  # an executor may be a third party's: its bug fails the step, no more
        log.exception("executor_failed")
        return None, Failed(Reason(ReasonCode.EXECUTOR_ERROR, {"error": type(error).__name__}))


def _keep(context: EngineContext, claimed: Claimed, performance: Performance) -> list[Artifact]:
    kept = []
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
    for warning in performance.warnings:
        log.warning("artifact_refused", warning=warning)
    return kept


def _address(claimed: Claimed, name: str) -> Address:
    return Address(str(claimed.run_id), name, claimed.key, claimed.number)


def _settle(
    context: EngineContext, settlement: Settlement, claimed: Claimed, lifeline: Lifeline
) -> Settled | ClaimLost:
    """Settle, again and again while Postgres is away and the lease may still hold.

    The fence makes a repetition safe: if the commit that seemed to fail took place, the next try is refused. What
    cannot be written fails the step: left unsettled, its lease would lapse and the same would happen again.
    """
    while True:
        try:
            return settle(context, settlement, claimed.claim_token)
        except ServersUnreachable as error:
            if lifeline.stop_reason is StopReason.LEASE_LOST:
                return ClaimLost()
            log.warning("settle_delayed", error=str(error))
            threading.Event().wait(1.0)  # nothing signals that Postgres is back
        except Exception as error:  # whatever the database or its driver refuses of an outcome
            if isinstance(settlement.outcome, Failed) and settlement.outcome.is_permanent:
                raise
            log.exception("outcome_refused")
            reason = Reason(ReasonCode.EXECUTOR_ERROR, {"error": type(error).__name__})
            settlement = replace(settlement, outcome=Failed(reason, is_permanent=True), artifacts=())
