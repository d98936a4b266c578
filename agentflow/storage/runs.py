"""Runs and their state rows: accepting, locking, moving. Plain reads for surfaces stand in views.py."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from agentflow.domain.budget import Budget, Exhaustion
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.pause import Pause
from agentflow.domain.reason import PERSON_CODES, Reason, ReasonCode
from agentflow.domain.state import FINAL_RUN_STATES, RunState
from agentflow.storage import precondition
from agentflow.storage.child_runs import Parentage, run_ids
from agentflow.storage.database import statement, to_json
from agentflow.storage.retention import missing_run

BUDGET_REASONS = (ReasonCode.BUDGET_EXHAUSTED, ReasonCode.BUDGET_CONTENDED, ReasonCode.BUDGET_UNSETTLED)
"""Why a step was given back that waits for a budget."""


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
    exhausted: tuple[Mapping[str, Any], ...] = ()
    paused: Pause | None = None

    @property
    def rests(self) -> bool:
        """Whether nothing of it is started until someone lifts the reason."""
        return self.state is RunState.RUNNING and (bool(self.exhausted) or self.paused is not None)


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
    forked_from: RunId | None = None
    forked_at_step: StepKey | None = None
    parentage: Parentage | None = None
    child_plans: Mapping[str, Any] | None = None
    mode: str = "auto"


@dataclass(frozen=True, slots=True)
class ExistingRun:
    """The run that already holds an idempotency key."""

    run_id: RunId
    request_sha256: str
    plan_fingerprint: str


def insert_plan(tx: Connection, fingerprint: str, name: str, document: bytes) -> None:
    """Store a plan under its fingerprint, once, and keep it from being pruned until the transaction ends."""
    parameters = {"fingerprint": fingerprint, "name": name, "document": document.decode("utf-8")}
    while tx.execute(statement("hold_plan"), {"fingerprint": fingerprint}).one_or_none() is None:
        if tx.execute(statement("insert_plan"), parameters).one_or_none() is not None:
            return


def insert_run(tx: Connection, submission: Submission) -> datetime | None:
    """Accept a run; None when another run already holds its idempotency key, or its id."""
    above = submission.parentage
    parameters = {
        "id": submission.run_id,
        "project": submission.project,
        "plan_fingerprint": submission.plan_fingerprint,
        "vars": to_json(dict(submission.vars)),
        "idempotency_key": submission.idempotency_key,
        "request_sha256": submission.request_sha256,
        "actor": submission.actor,
        "directive": submission.directive,
        "forked_from": submission.forked_from,
        "forked_at_step": submission.forked_at_step,
        "parent_run": above.parent_run if above else None,
        "parent_step": above.parent_step if above else None,
        "ancestors": to_json([str(run_id) for run_id in above.ancestors]) if above else None,
        "child_plans": to_json(dict(submission.child_plans)) if submission.child_plans else None,
        "mode": submission.mode,
    }
    created_at: datetime | None = tx.execute(statement("insert_run"), parameters).scalar_one_or_none()
    return created_at


def insert_run_state(
    tx: Connection, run_id: RunId, open_sinks: int, at: datetime, paused: Pause | None = None
) -> LockedRun:
    """Admit a run that was accepted ``at`` this transaction's time; it rests from the first moment if it is paused.

    Nobody else sees it before the commit: it is as good as locked.
    """
    stored = to_json(paused.as_json()) if paused else None
    tx.execute(statement("insert_run_state"), {"run_id": run_id, "open_sinks": open_sinks, "paused": stored})
    return LockedRun(
        run_id,
        RunState.RUNNING,
        reason=None,
        round=1,
        open_sinks=open_sinks,
        event_sequence=0,
        event_head=None,
        at=at,
        paused=paused,
    )


def insert_budget(tx: Connection, run_id: RunId, caps: Budget) -> None:
    """Give a run that was just accepted its caps."""
    tx.execute(statement("insert_run_budget"), {"run_id": run_id, **caps.model_dump()})


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
    if not is_shared:
        precondition.hold(tx, run_id)
    return LockedRun(
        run_id=run_id,
        state=RunState(row.state),
        reason=Reason.from_json(row.reason) if row.reason else None,
        round=row.round,
        open_sinks=row.open_sinks,
        event_sequence=row.event_sequence,
        event_head=_bytes(row.event_head),
        at=row.at,
        exhausted=tuple(row.exhausted or ()),
        paused=Pause.from_json(row.paused) if row.paused else None,
    )


def exhaust(tx: Connection, run: LockedRun, exhaustions: Sequence[Exhaustion]) -> None:
    """Let a locked run rest over budgets; what it rested over before stays, the same budget in its newest figures."""
    by_budget = {(each["budget"], each["scope"]): dict(each) for each in run.exhausted}
    by_budget |= {(each.budget.value, each.scope): each.as_detail() for each in exhaustions}
    parameters = {"run_id": run.run_id, "exhausted": to_json(list(by_budget.values()))}
    tx.execute(statement("exhaust_run"), parameters)


def pause(tx: Connection, run: LockedRun, paused: Pause) -> None:
    """Let a locked run rest because somebody paused it, or change the pause that stands."""
    rest_waiting(tx, run)
    tx.execute(statement("pause_run"), {"run_id": run.run_id, "paused": to_json(paused.as_json())}).one()


def rest_waiting(tx: Connection, run: LockedRun) -> None:
    """Count as rest the time in which a locked run waited for people only; something is about to change that."""
    tx.execute(statement("rest_waiting"), {"run_id": run.run_id, "person_codes": sorted(PERSON_CODES)})


def resume(tx: Connection, run: LockedRun, *, lifts_pause: bool = True, lifts_exhaustion: bool = True) -> list[StepKey]:
    """Lift from a locked run that rests what it rests for, or one of both; returns the steps that are due again."""
    lifted = {"lifts_pause": lifts_pause, "lifts_exhaustion": lifts_exhaustion}
    tx.execute(statement("resume_run"), {"run_id": run.run_id, **lifted}).one()
    codes = [ReasonCode.PAUSED] * lifts_pause + list(BUDGET_REASONS) * lifts_exhaustion
    freed = tx.execute(statement("free_resting_steps"), {"run_id": run.run_id, "codes": codes})
    ready = [StepKey(key) for key in freed.scalars()]
    if lifts_pause:
        tx.execute(statement("forget_yield"), {"run_id": run.run_id})
    return ready


def find_unpaused(tx: Connection, after: RunId | None, limit: int, *, is_hard: bool) -> list[RunId]:
    """Find runs that a maintenance has yet to pause, from ``after`` on in the order of their ids."""
    parameters = {"after_id": after, "limit": limit, "is_hard": is_hard}
    return [RunId(row) for row in tx.execute(statement("find_unpaused_runs"), parameters).scalars()]


def find_maintained(tx: Connection, after: RunId | None, limit: int) -> list[RunId]:
    """Find runs that a maintenance paused, from ``after`` on in the order of their ids."""
    parameters = {"after_id": after, "limit": limit}
    return [RunId(row) for row in tx.execute(statement("find_maintained_runs"), parameters).scalars()]


def find_reset(tx: Connection, limit: int) -> list[RunId]:
    """Find runs that rest over budgets of days that are over, and over no other; they may be paused too."""
    return [RunId(row) for row in tx.execute(statement("find_reset_runs"), {"limit": limit}).scalars()]


def read_budget(tx: Connection, run_id: RunId) -> Budget:
    """Read the caps of a run as they stand."""
    row = tx.execute(statement("read_run_budget"), {"run_id": run_id}).mappings().one_or_none()
    return Budget() if row is None else Budget(**row)


def raise_budget(tx: Connection, run: LockedRun, caps: Budget) -> bool:
    """Set a locked run's caps anew; False when one of them would be lowered or none is there."""
    parameters = {"run_id": run.run_id, **caps.model_dump()}
    return tx.execute(statement("raise_run_budget"), parameters).one_or_none() is not None


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose a run is: what its budgets beside its own go by."""

    project: str
    directive: str | None
    ancestors: tuple[RunId, ...] = ()
    """The runs above it, whose budgets it counts in too."""


def read_owner(tx: Connection, run_id: RunId) -> Owner:
    """Read whose a run is. NotFound when there is none, RunPruned if there was one."""
    row = tx.execute(statement("read_run_owner"), {"run_id": run_id}).one_or_none()
    if row is None:
        raise missing_run(tx, run_id)
    return Owner(row.project, row.directive, run_ids(row.ancestors))


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
    parameters = {
        "run_id": run.run_id,
        "old_state": run.state,
        "open_sinks": open_sinks,
    }
    tx.execute(statement("reopen_run"), parameters)


def find_passing_attempts(
    tx: Connection, run_id: RunId, keys: Sequence[StepKey], name: str, *, has_inner: bool = False
) -> list[tuple[StepKey, int]]:
    """Find the attempts of some steps of a run that have no row for a file of this name.

    ``has_inner``: also those of all model calls that foreachs made.
    """
    parameters = {"run_id": run_id, "keys": list(keys), "name": name, "has_inner": has_inner}
    return [(StepKey(row.key), row.number) for row in tx.execute(statement("find_passing_attempts"), parameters)]


def find_over(tx: Connection, limit: int) -> list[RunId]:
    """Find runs that have not ended although nothing of them is open any more."""
    return [RunId(row) for row in tx.execute(statement("find_over_runs"), {"limit": limit}).scalars()]
