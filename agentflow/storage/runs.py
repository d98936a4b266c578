"""Runs and their state rows: accepting, locking, moving. Plain reads for surfaces stand in views.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from agentflow.domain.ids import RunId
from agentflow.domain.reason import Reason
from agentflow.domain.state import FINAL_RUN_STATES, RunState
from agentflow.storage.database import statement, to_json


@dataclass(frozen=True, slots=True)
class LockedRun:
    """A run's state row as seen under its lock; ``at`` is the transaction's time."""

    run_id: RunId
    state: RunState
    reason: Reason | None
    round: int
    open_sinks: int
    event_sequence: int
    event_head: bytes | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Submission:
    """What identifies a submission: the plan, the vars and who sent it under which key."""

    run_id: RunId
    project: str
    plan_fingerprint: str
    vars: Mapping[str, Any]
    idempotency_key: str | None
    request_sha256: str
    actor: str
    directive: str | None = None


@dataclass(frozen=True, slots=True)
class ExistingRun:
    """The run that already holds an idempotency key."""

    run_id: RunId
    request_sha256: str
    plan_fingerprint: str


def insert_plan(tx: Connection, fingerprint: str, name: str, document: bytes) -> None:
    """Store a plan under its fingerprint, once."""
    tx.execute(
        statement("insert_plan"), {"fingerprint": fingerprint, "name": name, "document": document.decode("utf-8")}
    )


def insert_run(tx: Connection, submission: Submission) -> datetime | None:
    """Accept a run; None when another run already holds its idempotency key."""
    parameters = {
        "id": submission.run_id,
        "project": submission.project,
        "plan_fingerprint": submission.plan_fingerprint,
        "vars": to_json(dict(submission.vars)),
        "idempotency_key": submission.idempotency_key,
        "request_sha256": submission.request_sha256,
        "actor": submission.actor,
        "directive": submission.directive,
    }
    created_at: datetime | None = tx.execute(statement("insert_run"), parameters).scalar_one_or_none()
    return created_at


def insert_run_state(tx: Connection, run_id: RunId, open_sinks: int) -> None:
    """Admit a run that was just accepted."""
    tx.execute(statement("insert_run_state"), {"run_id": run_id, "open_sinks": open_sinks})


def find_by_key(tx: Connection, project: str, idempotency_key: str) -> ExistingRun | None:
    """Return the run that holds an idempotency key in a project."""
    row = tx.execute(
        statement("find_run_by_key"), {"project": project, "idempotency_key": idempotency_key}
    ).one_or_none()
    return ExistingRun(RunId(row.id), row.request_sha256, row.plan_fingerprint) if row else None


def lock(tx: Connection, run_id: RunId, *, is_shared: bool = False) -> LockedRun | None:
    """Lock a run's state row, alone or shared with claims and settles; None for an unknown run."""
    row = tx.execute(statement("lock_run_shared" if is_shared else "lock_run"), {"run_id": run_id}).one_or_none()
    if row is None:
        return None
    return LockedRun(
        run_id=run_id,
        state=RunState(row.state),
        reason=Reason.from_json(row.reason) if row.reason else None,
        round=row.round,
        open_sinks=row.open_sinks,
        event_sequence=row.event_sequence,
        event_head=_bytes(row.event_head),
        at=row.at,
    )


def set_state(
    tx: Connection, run: LockedRun, new_state: RunState, *, reason: Reason | None = None, closed_sinks: int = 0
) -> int:
    """Move a locked run and close sinks of it; returns how many sinks are still open."""
    parameters = {
        "run_id": run.run_id,
        "old_state": run.state,
        "new_state": new_state,
        "reason": to_json(reason.as_json()) if reason else None,
        "closed_sinks": closed_sinks,
        "is_final": new_state in FINAL_RUN_STATES,
    }
    return int(tx.execute(statement("set_run_state"), parameters).scalar_one())


def close_sinks(tx: Connection, run: LockedRun, count: int) -> int:
    """Count ``count`` sinks of a locked run as final; returns how many are still open."""
    return int(tx.execute(statement("close_sinks"), {"run_id": run.run_id, "count": count}).scalar_one())


def _bytes(value: Any) -> bytes | None:
    return None if value is None else bytes(value)


def read_vars(tx: Connection, run_id: RunId) -> dict[str, Any]:
    """Read the values of a run's vars."""
    return dict(tx.execute(statement("read_run_vars"), {"run_id": run_id}).scalar_one())


def read_plan_fingerprint(tx: Connection, run_id: RunId) -> str:
    """Read which plan a run executes."""
    return str(tx.execute(statement("read_plan_fingerprint"), {"run_id": run_id}).scalar_one())


def reopen(tx: Connection, run: LockedRun, open_sinks: int) -> None:
    """Set a locked run going again; its sinks are counted anew."""
    parameters = {"run_id": run.run_id, "old_state": run.state, "open_sinks": open_sinks}
    tx.execute(statement("reopen_run"), parameters)


def find_over(tx: Connection, limit: int) -> list[RunId]:
    """Find runs that have not ended although nothing of them is open any more."""
    return [RunId(row) for row in tx.execute(statement("find_over_runs"), {"limit": limit}).scalars()]
