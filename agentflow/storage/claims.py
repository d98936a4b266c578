"""Claims: taking a step for one attempt, and what its limits say to it.

The guard and the formula of the rates stand in sql/claim_step.sql; what a step's limits are is written by steps.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from agentflow.domain.blame import SUSPECTED_FROM
from agentflow.domain.budget import Budget
from agentflow.domain.ids import AttemptId, ClaimToken, RunId, StepId, StepKey
from agentflow.domain.limit import LATENESS_SECONDS
from agentflow.domain.outcome import ClaimRefusal
from agentflow.domain.reason import Reason
from agentflow.storage.database import statement, to_json


@dataclass(frozen=True, slots=True)
class ClaimedStep:
    """What a claim got: which step, which try, and what the plan and the run say about it.

    ``active_seconds_used`` is how long the run was going before this attempt, without its rests; ``timeout_seconds`` a
    person's word over the plan's.
    """

    old_state: str
    key: StepKey
    number: int
    failures: int
    losses: int
    is_sink: bool
    event_sequence: int
    event_head: bytes | None
    started_at: datetime
    plan_fingerprint: str
    vars: Mapping[str, Any]
    project: str
    directive: str | None
    budget: Budget
    ancestors: Sequence[str] | None
    active_seconds_used: float
    timeout_seconds: float | None


@dataclass(frozen=True, slots=True)
class TicketedStep:
    """A due step, locked, that its rate gave a later time: ``ticket_at``. ``at`` is the transaction's time."""

    rate_key: str
    ticket_at: datetime
    at: datetime
    event_sequence: int
    event_head: bytes | None


@dataclass(frozen=True, slots=True)
class PlacelessStep:
    """A due step, locked, whose concurrency key has no free place."""


def claim(
    tx: Connection,
    run_id: RunId,
    step_id: StepId,
    *,
    attempt_id: AttemptId,
    claim_token: ClaimToken,
    worker: str,
    lease_seconds: float,
) -> ClaimedStep | TicketedStep | PlacelessStep | None:
    """Take a step for one attempt, or say which limit makes it wait; None for other refusals (see find_refusal)."""
    parameters = {
        "run_id": run_id,
        "step_id": step_id,
        "attempt_id": attempt_id,
        "claim_token": claim_token,
        "worker": worker,
        "lease_seconds": lease_seconds,
        "lateness_seconds": LATENESS_SECONDS,
        "suspected_from": SUSPECTED_FROM,
    }
    row = tx.execute(statement("claim_step"), parameters).mappings().one_or_none()
    if row is None:
        return None
    fields: dict[str, Any] = dict(row)
    head = fields["event_head"]
    fields["event_head"] = None if head is None else bytes(head)
    refusal, rate_key, until = (fields.pop(name) for name in ("refusal", "rate_key", "until"))
    if refusal == ClaimRefusal.SLOT_BUSY:
        return PlacelessStep()
    if refusal == ClaimRefusal.RATE_LIMITED:
        return TicketedStep(rate_key, until, row["started_at"], row["event_sequence"], fields["event_head"])
    fields["budget"] = Budget(**{name: fields.pop(name) for name in Budget.model_fields})
    fields["active_seconds_used"] = float(fields["active_seconds_used"])
    return ClaimedStep(**fields)


def find_refusal(tx: Connection, run_id: RunId, step_id: StepId) -> Row[Any] | None:
    """Read what a refused claim met: run state, step state, whether it is due; None for an unknown step."""
    return tx.execute(statement("explain_claim"), {"run_id": run_id, "step_id": step_id}).one_or_none()


def snooze(tx: Connection, step_id: StepId, ticketed: TicketedStep, reason: Reason) -> None:
    """Put a step off until the time that ``claim`` returned."""
    parameters = {"step_id": step_id, "until": ticketed.ticket_at, "reason": to_json(reason.as_json())}
    tx.execute(statement("snooze_step"), parameters)
