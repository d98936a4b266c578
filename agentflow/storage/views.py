"""Plain reads for surfaces: runs as they are shown, their steps, attempts, artifacts and events; and finding a run.

Owns the number of statements: a fixed few, whatever the number of steps. Locks and moves nothing. The shapes that come
out, and their JSON, are view_shapes'; the shown state is derived by domain/state.py.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row

from agentflow.domain.budget import usd_of
from agentflow.domain.child import parent
from agentflow.domain.error import AmbiguousId, NotFound, UsageError
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.pause import Pause
from agentflow.domain.reason import ReasonCode
from agentflow.domain.state import AttemptState, RunFacts, RunState, ShownRunState, StepState, shown_state
from agentflow.storage import balances, forks, gates, retention, signals
from agentflow.storage.active_time import read_active_time
from agentflow.storage.database import statement
from agentflow.storage.view_shapes import (
    ArtifactView,
    AttemptView,
    CallView,
    EventView,
    RunSummary,
    RunView,
    StepView,
    TreeUsage,
    Usage,
)

LAST = "@last"
_HEX = re.compile(r"[0-9a-f]{4,32}")
_CANDIDATES = 8
_STANDINGS_AT_ONCE = 500
"""How many running runs are looked into at a time, where only those that wait are asked for, or only the others."""


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs to list; None means any. ``before`` is the place after which a page begins."""

    project: str | None = None
    name: str | None = None
    state: ShownRunState | None = None
    before: tuple[datetime, UUID] | None = None
    is_child: bool | None = None
    """Whether some step of another run started it."""
    parent: RunId | None = None


def find_run(tx: Connection, reference: str, project: str | None = None) -> RunId:
    """Return the run that a person names: by its id, a prefix of at least 4 hex digits, or ``@last``.

    UsageError when that is none of the three, NotFound when there is no such run (in ``project``), AmbiguousId when the
    prefix fits several.
    """
    if reference == LAST:
        last = tx.execute(statement("view_last_run"), {"project": project}).scalar_one_or_none()
        if last is None:
            raise NotFound(f"There is no run yet{_within(project)}.", reference=reference)
        return RunId(last)
    digits = reference.strip().lower().replace("-", "")
    if not _HEX.fullmatch(digits):
        raise UsageError(f"{reference!r} names no run: give its id, at least 4 digits of it, or {LAST}.")
    low, high = UUID(digits.ljust(32, "0")), UUID(digits.ljust(32, "f"))
    parameters = {"low": low, "high": high, "project": project, "limit": _CANDIDATES + 1}
    found = [RunId(row) for row in tx.execute(statement("view_run_ids"), parameters).scalars()]
    if not found:
        pruned = retention.find_tombstones(tx, low, high, project, 2)
        if len(pruned) == 1:
            raise retention.pruned_run(pruned[0])
        raise NotFound(f"There is no run {reference}{_within(project)}.", reference=reference)
    if len(found) > 1:
        raise _ambiguous(reference, found)
    return found[0]


def _within(project: str | None) -> str:
    return f" in project {project}" if project else ""


def _ambiguous(reference: str, found: Sequence[RunId]) -> AmbiguousId:
    named = [str(run_id) for run_id in found[:_CANDIDATES]]
    more = " and others" if len(found) > _CANDIDATES else ""
    message = f"{reference} fits several runs: {', '.join(named)}{more}. Give more digits."
    return AmbiguousId(message, reference=reference, candidates=named)


def read_summary(tx: Connection, run_id: RunId) -> RunSummary:
    """Read a run without its steps. NotFound when there is none."""
    row = tx.execute(statement("view_run"), {"run_id": run_id}).one_or_none()
    if row is None:
        raise retention.missing_run(tx, run_id)
    [summary] = _summaries(tx, [row])
    return summary


def list_runs(tx: Connection, wanted: RunFilter, limit: int) -> list[RunSummary]:
    """Read up to ``limit`` runs, the newest first."""
    stored = _stored(wanted.state)
    found: list[RunSummary] = []
    before = wanted.before
    name = wanted.name
    plans = None if name is None else list(tx.execute(statement("find_fingerprints"), {"name": name}).scalars())
    at_once = limit if stored.is_waiting is None else max(limit, _STANDINGS_AT_ONCE)
    while len(found) < limit:
        rows = _page(tx, wanted, stored, plans, before, at_once)
        found += [each for each in _summaries(tx, rows) if stored.is_waiting is None or each.state is wanted.state]
        if len(rows) < at_once:
            break
        before = (rows[-1].created_at, rows[-1].id)
    return found[:limit]


def _page(
    tx: Connection,
    wanted: RunFilter,
    stored: _Stored,
    plans: Sequence[str] | None,
    before: tuple[datetime, UUID] | None,
    limit: int,
) -> Sequence[Row[Any]]:
    before_at, before_id = before or (None, None)
    parameters = {
        "project": wanted.project,
        "fingerprints": plans,
        "states": stored.states,
        "is_exhausted": stored.is_exhausted,
        "is_paused": stored.is_paused,
        "is_child": wanted.is_child,
        "parent_run": wanted.parent,
        "before_at": before_at,
        "before_id": before_id,
        "limit": limit,
    }
    return tx.execute(statement("view_runs"), parameters).all()


@dataclass(frozen=True, slots=True)
class _Stored:
    """What the rows of runs in a shown state say; None means anything."""

    states: list[str] | None = None
    is_waiting: bool | None = None
    is_exhausted: bool | None = None
    is_paused: bool | None = None


def _stored(state: ShownRunState | None) -> _Stored:
    match state:
        case None:
            return _Stored()
        case ShownRunState.PAUSED:
            return _Stored([RunState.RUNNING], is_paused=True)
        case ShownRunState.EXHAUSTED:
            return _Stored([RunState.RUNNING], is_exhausted=True, is_paused=False)
        case ShownRunState.WAITING:
            return _Stored([RunState.RUNNING], is_waiting=True, is_exhausted=False, is_paused=False)
        case ShownRunState.RUNNING:
            return _Stored([RunState.RUNNING], is_waiting=False, is_exhausted=False, is_paused=False)
        case _:
            return _Stored([state.value])


def _summaries(tx: Connection, rows: Sequence[Row[Any]]) -> list[RunSummary]:
    running = [row.id for row in rows if row.state == RunState.RUNNING]
    found = tx.execute(statement("view_standings"), {"run_ids": running}).all() if running else []
    standings = {standing.id: standing for standing in found}
    return [_summary(row, standings.get(row.id)) for row in rows]


def _summary(row: Row[Any], standing: Row[Any] | None) -> RunSummary:
    facts = RunFacts(
        RunState(row.state),
        is_paused=row.paused is not None,
        is_exhausted=row.exhausted is not None,
        moving_steps=int(standing is not None and standing.is_moving),
        held_steps=int(standing is not None and standing.is_holding),
    )
    state = shown_state(facts)
    return RunSummary(
        id=RunId(row.id),
        state=state,
        project=row.project,
        plan_name=row.plan_name,
        plan_fingerprint=row.plan_fingerprint,
        actor=row.actor,
        reason=_reason(row, state, standing),
        round=row.round,
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        read_at=row.read_at,
    )


def _reason(row: Row[Any], state: ShownRunState, standing: Row[Any] | None) -> dict[str, Any] | None:
    """Why the run stands as it does; of several exhausted budgets the first, with the others beside it."""
    if state is ShownRunState.PAUSED:
        return Pause.from_json(row.paused).reason.as_json()
    is_waiting = standing is not None and state is ShownRunState.WAITING
    reason: dict[str, Any] | None = standing.held_reason if standing is not None and is_waiting else row.reason
    if state is not ShownRunState.EXHAUSTED:
        return reason
    first, *others = row.exhausted
    detail = first | ({"others": others} if others else {})
    return {"code": ReasonCode.BUDGET_EXHAUSTED.value, "detail": detail}


def read_run(tx: Connection, run_id: RunId) -> RunView:
    """Read a run with its steps, attempts, artifacts, usage, budget, lineage, gates and signals.

    In at most sixteen statements. NotFound when there is none.
    """
    summary = read_summary(tx, run_id)
    rows = _below_foreachs(tx.execute(statement("view_steps"), {"run_id": run_id}).all())
    calls = {(row.key, row.number): row for row in tx.execute(statement("view_calls"), {"run_id": run_id})}
    attempts: dict[str, list[AttemptView]] = defaultdict(list)
    for row in tx.execute(statement("view_attempts"), {"run_id": run_id}):
        attempts[row.key].append(_attempt(row, calls.get((row.key, row.number))))
    artifacts: dict[str, list[ArtifactView]] = defaultdict(list)
    for artifact in read_artifacts(tx, run_id):
        artifacts[artifact.step].append(artifact)
    needs = _needs(tx, run_id, rows)
    steps = {row.key: _step(row, needs[row.id], attempts[row.key], artifacts[row.key]) for row in rows}
    usage = _usage(tx, run_id, attempts.values(), calls.values())
    opened = gates.view(tx, run_id=run_id, is_open=False) if any(row.action == "approval" for row in rows) else []
    kept = signals.read_waiting(tx, run_id) if any(row.action == "wait" for row in rows) else []
    caps, lineage = balances.read_caps(tx, run_id), forks.read_lineage(tx, run_id)
    if lineage.children:
        below = gates.view(tx, run_id=run_id, is_open=True, is_tree=True)
        opened += [view for view in below if view.run_id != run_id]
    tree = _tree_usage(tx, run_id) if lineage.children else None
    return RunView(summary, usage, steps, caps, lineage, tuple(opened), tuple(kept), tree)


def _below_foreachs(rows: Sequence[Row[Any]]) -> list[Row[Any]]:
    """Put what foreachs made below them, item by item."""
    inside: dict[str, list[Row[Any]]] = defaultdict(list)
    for row in rows:
        inside[row.parent or ""].append(row)
    if len(inside) == 1:
        return list(rows)
    ordered: list[Row[Any]] = []
    work = inside[""][::-1]
    while work:
        row = work.pop()
        ordered.append(row)
        work.extend(sorted(inside.get(row.key, ()), key=lambda inner: inner.item)[::-1])
    return ordered


def _needs(tx: Connection, run_id: RunId, rows: Sequence[Row[Any]]) -> Mapping[UUID, list[StepKey]]:
    """The needs of each step, in the order of the plan; what stands inside of a foreach or an item is no need of it."""
    positions = {row.id: position for position, row in enumerate(rows)}
    containers = {row.id: row.key for row in rows if row.children is not None or (row.parent and row.action == "group")}
    wanted: dict[UUID, list[int]] = defaultdict(list)
    for edge in tx.execute(statement("view_needs"), {"run_id": run_id}):
        position, around = positions[edge.from_step], containers.get(edge.to_step)
        if around is None or parent(rows[position].key) != around:
            wanted[edge.to_step].append(position)
    return {row.id: [StepKey(rows[position].key) for position in sorted(wanted[row.id])] for row in rows}


def _attempt(row: Row[Any], call: Row[Any] | None) -> AttemptView:
    return AttemptView(
        number=row.number,
        state=AttemptState(row.state),
        worker=row.worker,
        started_at=row.started_at,
        ended_at=row.ended_at,
        exit_code=row.exit_code,
        signal=row.signal,
        reason=row.reason,
        retry_at=row.retry_at,
        call=_call(call) if call is not None else None,
    )


def _call(row: Row[Any]) -> CallView:
    return CallView(
        provider=row.provider,
        model=row.model,
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        cached_tokens=row.cached_tokens,
        reasoning_tokens=row.reasoning_tokens,
        usd=None if row.usd_nano is None else usd_of(row.usd_nano),
        is_estimated=row.is_estimated,
        finish_reason=row.finish_reason,
        problem=row.problem,
        duration_seconds=row.duration_seconds,
    )


def _step(
    row: Row[Any], needs: Sequence[StepKey], attempts: Sequence[AttemptView], artifacts: Sequence[ArtifactView]
) -> StepView:
    return StepView(
        id=StepKey(row.key),
        action=row.action,
        needs=tuple(needs),
        state=StepState(row.state),
        reason=row.reason,
        result=row.result,
        attempts=tuple(attempts),
        artifacts=tuple(artifact for artifact in artifacts if artifact.attempt == row.attempts),
        choice=row.choice,
        items=row.children,
        foreach=row.parent,
        item=row.item,
    )


def _usage(
    tx: Connection, run_id: RunId, attempts: Iterable[Sequence[AttemptView]], calls: Collection[Row[Any]]
) -> Usage:
    own = (attempt for of_step in attempts for attempt in of_step if not attempt.is_reused)
    ended = [attempt.duration_seconds or 0.0 for attempt in own]
    return Usage(
        attempts=len(ended),
        active_seconds=read_active_time(tx, run_id).active,
        attempt_seconds=round(sum(ended), 6),
        calls=len(calls),
        tokens=sum(call.input_tokens + call.output_tokens for call in calls),
        input_tokens=sum(call.input_tokens for call in calls),
        output_tokens=sum(call.output_tokens for call in calls),
        cached_tokens=sum(call.cached_tokens for call in calls),
        reasoning_tokens=sum(call.reasoning_tokens for call in calls),
        usd=usd_of(sum(call.usd_nano or 0 for call in calls)),
        estimated_calls=sum(call.is_estimated for call in calls),
        unpriced_calls=sum(call.usd_nano is None for call in calls),
    )


def _tree_usage(tx: Connection, run_id: RunId) -> TreeUsage:
    row = tx.execute(statement("sum_tree_usage"), {"run_id": run_id}).one()
    return TreeUsage(row.child_runs, row.attempts, row.calls, row.tokens, usd_of(row.usd_nano), row.unpriced_calls)


def read_artifacts(tx: Connection, run_id: RunId, step: str | None = None) -> list[ArtifactView]:
    """Read what all attempts of a run (or of one step) left, in the order of the plan and of the attempts."""
    rows = tx.execute(statement("view_artifacts"), {"run_id": run_id, "step": step})
    return [ArtifactView(*row) for row in rows]


def events_after(tx: Connection, run_id: RunId, after_id: int = 0, most: int | None = None) -> list[EventView]:
    """Read a run's events with an id above ``after_id``, in the order in which they were written, ``most`` at most.

    Ids are given before the commit, so one may appear after a higher one was read: who follows a run must look back.
    """
    rows = tx.execute(statement("view_events"), {"run_id": run_id, "after_id": after_id, "most": most})
    return [EventView(*row) for row in rows]


def count_events(tx: Connection, run_id: RunId) -> int:
    """Count a run's events."""
    found: int = tx.execute(statement("count_run_events"), {"run_id": run_id}).scalar_one()
    return found
