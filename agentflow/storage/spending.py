"""Spending: what attempts reserved and what calls used. Postgres is the truth; the ledger in Redis is made from it.

Owns the rows of calls, the reservation on the attempt's row and the sums over both for a scope. An attempt counts as a
step from the moment in which its reservation was granted; what it used in tokens and money is in the row of its call.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from agentflow.domain.budget import Amounts, Scope, counted_in
from agentflow.domain.call import CallUsage
from agentflow.domain.ids import AttemptId, ClaimToken, RunId, StepId
from agentflow.storage.database import statement, to_json


@dataclass(frozen=True, slots=True)
class LlmCall:
    """What one attempt's call used; ``started_at`` is the attempt's, which places it in a day."""

    attempt_id: AttemptId
    step_id: StepId
    project: str
    directive: str | None
    provider: str
    model: str
    usage: CallUsage
    started_at: datetime
    duration_seconds: float
    finish_reason: str | None = None
    problem: str | None = None
    request_sha256: str | None = None
    answer_sha256: str | None = None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A scope at one moment: what ended attempts used, and what each running one has reserved."""

    used: Amounts
    outstanding: Mapping[AttemptId, Amounts]

    @property
    def reserved(self) -> Amounts:
        """The sum of what running attempts have reserved."""
        return sum(self.outstanding.values(), Amounts())


@dataclass(frozen=True, slots=True)
class Spent:
    """What an attempt that does not run any more used, and by which grant. ``ended_seconds`` ago; None: no row."""

    amounts: Amounts
    grant: str | None
    ended_seconds: float | None


@dataclass(frozen=True, slots=True)
class ModelUsage:
    """What a run's calls of one model used."""

    provider: str
    model: str
    calls: int
    estimated_calls: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    usd_nano: int
    unpriced_calls: int


def set_reserved(tx: Connection, attempt_id: AttemptId, claim_token: ClaimToken, amounts: Amounts) -> bool:
    """Note what an attempt is about to reserve; False when its claim was lost."""
    parameters = {
        "attempt_id": attempt_id,
        "claim_token": claim_token,
        "reserved": to_json(amounts.as_json()),
    }
    return tx.execute(statement("set_reserved"), parameters).one_or_none() is not None


def note_granted(tx: Connection, attempt_id: AttemptId, claim_token: ClaimToken, grant: str) -> bool:
    """Note that an attempt has what it reserved and may begin; False when its claim was lost: then it must not."""
    parameters = {"attempt_id": attempt_id, "claim_token": claim_token, "grant": grant}
    return tx.execute(statement("note_granted"), parameters).one_or_none() is not None


def insert_call(tx: Connection, run_id: RunId, call: LlmCall) -> None:
    """Record what an attempt's call used; in the transaction that ends the attempt."""
    fields: dict[str, Any] = {slot: getattr(call, slot) for slot in LlmCall.__slots__ if slot != "usage"}
    usage = {slot: getattr(call.usage, slot) for slot in CallUsage.__slots__}
    tx.execute(statement("insert_llm_call"), {"run_id": run_id, **fields, **usage})


def snapshot(tx: Connection, scope: Scope) -> Snapshot:
    """Read what a scope has used and what is outstanding, in one statement."""
    name, parameters = _of(scope)
    row = tx.execute(statement(name), parameters).one()
    reserving: Iterable[tuple[Any, Any]] = zip(row.attempt_ids or (), row.reserved or (), strict=True)
    outstanding = {AttemptId(each): counted_in(scope.name, Amounts.from_json(stored)) for each, stored in reserving}
    return Snapshot(Amounts(steps=row.steps, tokens=row.tokens, usd_nano=row.usd_nano), outstanding)


def _of(scope: Scope) -> tuple[str, dict[str, Any]]:
    if scope.run_id is not None:
        return "sum_run_spending", {"run_id": scope.run_id}
    bounds = {"since": scope.since or "-infinity", "until": scope.resets_at or "infinity"}
    if scope.directive is not None:
        return "sum_directive_spending", {"project": scope.project, "directive": scope.directive, **bounds}
    if scope.project is not None:
        return "sum_project_spending", {"project": scope.project, **bounds}
    return "sum_installation_spending", bounds


def find_spent(tx: Connection, attempt_ids: Iterable[AttemptId]) -> dict[AttemptId, Spent]:
    """Find those of the attempts that do not run any more, with what they used."""
    wanted = list(attempt_ids)
    if not wanted:
        return {}
    rows = tx.execute(statement("find_spent"), {"attempt_ids": wanted})
    return {
        AttemptId(row.id): Spent(
            Amounts(steps=row.steps, tokens=row.tokens, usd_nano=row.usd_nano),
            row.grant_name,
            None if row.ended_seconds is None else float(row.ended_seconds),
        )
        for row in rows
    }


def read_usage(tx: Connection, run_id: RunId) -> list[ModelUsage]:
    """Read what a run's calls used, by model."""
    rows = tx.execute(statement("view_usage"), {"run_id": run_id}).mappings()
    return [ModelUsage(**row) for row in rows]


def wake_waiting(tx: Connection, scopes: Sequence[str], count: int, within_seconds: float) -> int:
    """Make up to ``count`` steps a scope due that wait for what others had reserved; returns how many."""
    parameters = {"scopes": list(scopes), "count": count, "within_seconds": within_seconds}
    return len(tx.execute(statement("wake_contended_steps"), parameters).all())
