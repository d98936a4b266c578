"""Attempts, their leases and their artifacts: holding, extending, ending, finding what lapsed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, RowMapping

from agentflow.domain.blame import SUSPECTED_FROM, Company, is_suspect
from agentflow.domain.budget import Amounts
from agentflow.domain.ids import AttemptId, ClaimToken, RunId, StepId, StepKey
from agentflow.domain.outcome import ATTEMPT_STATES, AttemptOutcome, Released, Succeeded
from agentflow.domain.reason import ReasonCode
from agentflow.domain.state import AttemptState
from agentflow.domain.transition import NextStep
from agentflow.storage.database import statement, to_json

GRANTED = "granted"
"""The mark in ``attempt.reserved``: from here on the attempt may have used what it reserved."""


@dataclass(frozen=True, slots=True)
class HeldAttempt:
    """A running attempt and its step, both locked."""

    step_id: StepId
    key: StepKey
    is_sink: bool
    failures: int
    losses: int
    joint_losses: int
    postponed: int
    """How often the other side of a call has asked to wait, in this round."""
    event_sequence: int
    event_head: bytes | None
    attempt_id: AttemptId
    number: int
    worker: str
    is_stop_requested: bool
    reserved: Amounts | None
    grant: str | None
    """The grant of the reservation; None before there is one: nothing was used then."""
    started_at: datetime


@dataclass(frozen=True, slots=True)
class LapsedAttempt:
    """A running attempt whose lease is over."""

    run_id: RunId
    step_id: StepId
    attempt_id: AttemptId


@dataclass(frozen=True, slots=True)
class Artifact:
    """A file in the content store that an attempt produced; sizes in bytes, ``bytes_seen`` before any cut."""

    name: str
    kind: str
    bytes: int
    bytes_seen: int
    sha256: str
    media_type: str
    is_cut: bool


@dataclass(frozen=True, slots=True)
class StandingLease:
    """A lease that was extended, and what its work is asked: to stop for good, or to give the step back."""

    is_stop_requested: bool
    is_yield_requested: bool


def hold(tx: Connection, step_id: StepId, claim_token: ClaimToken) -> HeldAttempt | None:
    """Lock the running attempt of a claim and its step; None when the claim was lost."""
    row = tx.execute(statement("lock_attempt"), {"step_id": step_id, "claim_token": claim_token})
    return _held(row.mappings().one_or_none())


def hold_lapsed(
    tx: Connection, step_id: StepId, attempt_id: AttemptId, *, is_known_lost: bool = False
) -> HeldAttempt | None:
    """Lock an attempt whose lease lapsed and its step; None when there is nothing to rescue any more."""
    parameters = {"step_id": step_id, "attempt_id": attempt_id, "is_known_lost": is_known_lost}
    return _held(tx.execute(statement("lock_lapsed_attempt"), parameters).mappings().one_or_none())


def _held(row: RowMapping | None) -> HeldAttempt | None:
    if row is None:
        return None
    fields: dict[str, Any] = dict(row)
    fields["step_id"] = StepId(fields.pop("id"))
    fields["event_head"] = _bytes(row["event_head"])
    reserved = row["reserved"]
    fields["reserved"] = Amounts.from_json(reserved) if reserved else None
    fields["grant"] = str(reserved[GRANTED]) if reserved and GRANTED in reserved else None
    return HeldAttempt(**fields)


def count_returns(tx: Connection, held: HeldAttempt, codes: Iterable[ReasonCode]) -> int:
    """Count the attempts of a held step, in a row before the held one, that ended for one of these reasons."""
    parameters = {"step_id": held.step_id, "number": held.number, "codes": sorted(codes)}
    return int(tx.execute(statement("count_returns"), parameters).scalar_one())


def _bytes(value: Any) -> bytes | None:
    return None if value is None else bytes(value)


def end(
    tx: Connection, held: HeldAttempt, outcome: AttemptOutcome, then: NextStep, *, signal: int | None = None
) -> datetime | None:
    """Record how a held attempt ended and what its step does next; returns when the step is due again, if it is."""
    result = outcome.result if isinstance(outcome, Succeeded) and outcome.has_result else None
    has_result = isinstance(outcome, Succeeded) and outcome.has_result
    reason = getattr(outcome, "reason", None)
    parameters = {
        "attempt_id": held.attempt_id,
        "attempt_state": ATTEMPT_STATES[type(outcome)],
        "exit_code": getattr(outcome, "exit_code", None),
        "signal": signal,
        "reason": to_json(reason.as_json()) if reason else None,
        "step_id": held.step_id,
        "step_state": then.state,
        "step_reason": to_json(then.reason.as_json()) if then.reason else None,
        "delay_seconds": then.delay_seconds,
        "failures": int(then.counts_as_failure),
        "losses": int(then.counts_as_loss),
        "joint_losses": int(then.counts_as_joint_loss),
        "postponed": int(then.counts_as_postponed),
        "has_result": has_result,
        "result": to_json(result) if has_result else None,
        "keeps_ticket": isinstance(outcome, Released) and outcome.keeps_ticket,
    }
    not_before: datetime | None = tx.execute(statement("end_attempt"), parameters).scalar_one()
    return not_before


def extend_leases(
    tx: Connection, leases: Mapping[AttemptId, ClaimToken], lease_seconds: float
) -> dict[ClaimToken, StandingLease]:
    """Extend leases; returns, for each claim that still holds, what its work is asked."""
    parameters = {
        "attempt_ids": list(leases),
        "claim_tokens": list(leases.values()),
        "lease_seconds": lease_seconds,
    }
    rows = tx.execute(statement("extend_leases"), parameters)
    return {ClaimToken(row.claim_token): StandingLease(row.is_stop_requested, row.is_yield_requested) for row in rows}


def request_stop(tx: Connection, run_id: RunId, step_id: StepId | None = None) -> dict[AttemptId, bool]:
    """Ask the running attempts of a run, or of one step, to stop; returns whether each is newly asked."""
    rows = tx.execute(statement("request_stop"), {"run_id": run_id, "step_id": step_id})
    return {AttemptId(row.id): row.is_new for row in rows}


def request_yield(tx: Connection, run_id: RunId) -> list[AttemptId]:
    """Ask the running attempts of a run to give their steps back; returns all that run."""
    return [AttemptId(row) for row in tx.execute(statement("request_yield"), {"run_id": run_id}).scalars()]


def count_running(tx: Connection, run_id: RunId | None = None) -> int:
    """Count the attempts that run: of one run, or of all."""
    return int(tx.execute(statement("count_running"), {"run_id": run_id}).scalar_one())


def find_lapsed(tx: Connection, limit: int) -> list[LapsedAttempt]:
    """Find running attempts whose lease is over."""
    rows = tx.execute(statement("find_lapsed"), {"limit": limit})
    return [LapsedAttempt(RunId(row.run_id), StepId(row.step_id), AttemptId(row.id)) for row in rows]


def find_running_on(tx: Connection, step_id: StepId, worker: str) -> LapsedAttempt | None:
    """Find the running attempt of a step if ``worker`` has it."""
    row = tx.execute(statement("find_running_on"), {"step_id": step_id, "worker": worker}).one_or_none()
    return LapsedAttempt(RunId(row.run_id), StepId(row.step_id), AttemptId(row.id)) if row else None


def has_recent_loss(tx: Connection, run_id: RunId, seconds: float) -> bool:
    """Whether an attempt of a run was lost within the last ``seconds``."""
    found = tx.execute(statement("find_recent_loss"), {"run_id": run_id, "seconds": seconds}).scalar_one_or_none()
    return found is not None


def insert_artifacts(
    tx: Connection, run_id: RunId, step_id: StepId, attempt_id: AttemptId, artifacts: Sequence[Artifact]
) -> None:
    """Record the files that an attempt produced."""
    if not artifacts:
        return
    records = [{slot: getattr(artifact, slot) for slot in Artifact.__slots__} for artifact in artifacts]
    parameters = {"run_id": run_id, "step_id": step_id, "attempt_id": attempt_id, "artifacts": to_json(records)}
    tx.execute(statement("insert_artifacts"), parameters)


def read_state(tx: Connection, attempt_id: AttemptId) -> AttemptState | None:
    """Read how an attempt stands; None for an unknown one."""
    state = tx.execute(statement("read_attempt_state"), {"attempt_id": attempt_id}).scalar_one_or_none()
    return AttemptState(state) if state else None


@dataclass(frozen=True, slots=True)
class Loss:
    """The circumstances of a loss: the worker, who was lost with it, and whether the step ran as a suspect."""

    worker: str
    company: Company
    is_suspected: bool


def read_loss(tx: Connection, attempt_id: AttemptId, lease_seconds: float) -> Loss:
    """Read under which circumstances an attempt, which still runs by the record, was lost with its worker."""
    parameters = {"attempt_id": attempt_id, "lease_seconds": lease_seconds, "suspected_from": SUSPECTED_FROM}
    row = tx.execute(statement("read_loss"), parameters).one()
    return Loss(row.worker, Company(row.others, row.suspects, row.is_stopping), is_suspect(row.joint_losses))
