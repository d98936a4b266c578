"""Forks: what a run leaves to one that is made from it, and writing that into the new run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from sqlalchemy import Connection, Row

from agentflow.domain.budget import Budget
from agentflow.domain.ids import RunId, StepKey, step_id
from agentflow.domain.mode import Mode
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.state import StepState
from agentflow.storage.attempts import Artifact
from agentflow.storage.database import statement, to_json
from agentflow.storage.view_shapes import Lineage, RunLink

REUSED_ATTEMPT = 1
"""The number that a step's attempt has in the run that took it over."""
DECIDED_ACTIONS = ("decision", "wait", "run", "foreach", "group")
"""What the engine did itself that a fork takes over, though it has no attempt."""


@dataclass(frozen=True, slots=True)
class Origin:
    """What a fork starts from: whose the run is, its plan, vars and mode, and its caps as they stand."""

    project: str
    directive: str | None
    plan_fingerprint: str
    vars: Mapping[str, Any]
    caps: Budget
    child_plans: Mapping[str, Any]
    mode: Mode


@dataclass(frozen=True, slots=True)
class Work:
    """The attempt by which a step succeeded."""

    number: int
    worker: str
    started_at: datetime
    ended_at: datetime
    signal: int | None


@dataclass(frozen=True, slots=True)
class ReusableStep:
    """A step that succeeded, with the attempt that did it and the files that this left.

    What the engine decided itself has no attempt; of a decision there is its choice, of a foreach the number of its
    items. What stands inside of a foreach that succeeded may have ended otherwise; that is no work to take over.
    """

    key: StepKey
    action: str
    exit_code: int | None
    result: Any
    has_result: bool
    choice: str | None
    work: Work | None
    artifacts: tuple[Artifact, ...]
    reason: Reason
    """What a step says that takes this over: in which run, and by which attempt there, it was done."""
    state: StepState = StepState.SUCCEEDED
    items: Items | None = None


@dataclass(frozen=True, slots=True)
class Items:
    """How many items a foreach had, and how they ended."""

    count: int
    succeeded: int
    failed: int
    skipped: int
    cancelled: int
    untaken: int


def read_origin(tx: Connection, run_id: RunId) -> Origin | None:
    """Read what a fork starts from; None for an unknown run."""
    row = tx.execute(statement("read_origin"), {"run_id": run_id}).one_or_none()
    if row is None:
        return None
    caps = Budget(steps=row.steps, tokens=row.tokens, usd_nano=row.usd_nano, active_seconds=row.active_seconds)
    return Origin(
        row.project, row.directive, row.plan_fingerprint, row.vars, caps, row.child_plans or {}, Mode(row.mode)
    )


def read_reusable(tx: Connection, run_id: RunId) -> dict[StepKey, ReusableStep]:
    """Read the steps of a run that have succeeded so far, and what ended inside of foreachs, by position."""
    rows = tx.execute(statement("read_reusable_steps"), {"run_id": run_id, "decided_actions": list(DECIDED_ACTIONS)})
    return {
        StepKey(row.key): ReusableStep(
            key=StepKey(row.key),
            action=row.action,
            exit_code=row.exit_code,
            result=row.result,
            has_result=row.has_result,
            choice=row.choice,
            work=_work(row),
            artifacts=tuple(Artifact(**each) for each in row.artifacts),
            reason=_reason(run_id, row.number, row.reason, StepState(row.state)),
            state=StepState(row.state),
            items=_items(row),
        )
        for row in rows
    }


def _work(row: Row[Any]) -> Work | None:
    if row.number is None:
        return None
    return Work(row.number, row.worker, row.started_at, row.ended_at, row.signal)


def _items(row: Row[Any]) -> Items | None:
    if row.children is None:
        return None
    counts = (row.needs_succeeded, row.needs_failed, row.needs_skipped, row.needs_cancelled, row.needs_untaken)
    return Items(row.children, *counts)


def _reason(run_id: RunId, attempt: int | None, reason: Mapping[str, Any] | None, state: StepState) -> Reason:
    """Name the run in which the work was done: that is not the origin where this took it over itself.

    What did not succeed, or not wholly, keeps its reason.
    """
    if reason and (
        state is not StepState.SUCCEEDED or reason.get("code") in (ReasonCode.REUSED, ReasonCode.ITEMS_FAILED)
    ):
        return Reason.from_json(reason)
    return Reason(ReasonCode.REUSED, {"run": str(run_id), "attempt": attempt})


def insert_reused(tx: Connection, run_id: RunId, reused: Sequence[ReusableStep]) -> None:
    """Let steps of a new run stand as succeeded by what its origin did, each with one attempt that says so."""
    records = [_record(run_id, step) for step in reused]
    rows = tx.execute(statement("insert_reused_steps"), {"run_id": run_id, "reused": to_json(records)}).all()
    if len(rows) != len(records):
        raise LookupError(f"of {len(records)} steps to take over {len(rows)} are steps of the new run")


def _record(run_id: RunId, step: ReusableStep) -> dict[str, Any]:
    return {
        "step_id": str(step_id(run_id, step.key)),
        "exit_code": step.exit_code,
        "has_result": step.has_result,
        "result": step.result,
        "choice": step.choice,
        "state": step.state.value,
        "reason": step.reason.as_json(),
        **(asdict(step.items) if step.items else {}),
        "artifacts": [asdict(artifact) for artifact in step.artifacts],
        **(_record_of_work(step.work) if step.work else {}),
    }


def _record_of_work(work: Work) -> dict[str, Any]:
    return {
        "attempt_id": str(uuid4()),
        "claim_token": str(uuid4()),  # nobody knows it: the attempt has ended
        "worker": work.worker,
        "started_at": work.started_at.isoformat(),
        "ended_at": work.ended_at.isoformat(),
        "signal": work.signal,
    }


def read_lineage(tx: Connection, run_id: RunId) -> Lineage:
    """Read where a run came from and which came from it."""
    return lineage_of(tx.execute(statement("view_lineage"), {"run_id": run_id}).one())


def lineage_of(row: Row[Any]) -> Lineage:
    """Make the lineage of a row that has the columns of view_lineage."""
    parent = None if row.parent_run is None else RunLink(row.parent_run, row.parent_step)
    children = tuple(RunLink(UUID(each["run"]), each["step"]) for each in row.children or ())
    return Lineage(row.forked_from, row.forked_at_step, tuple(row.forks), parent, children)
