"""Plain reads for surfaces: finding runs, lists of them as they are shown, and one run's artifacts and events.

Owns the number of statements: a fixed few, whatever the number of runs. Locks and moves nothing. A run with all of its
steps is whole_run.py's, the shapes that come out are view_shapes'; the shown state is derived by domain/state.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row

from agentflow.domain.error import AmbiguousId, NotFound, UsageError
from agentflow.domain.ids import SMOKE_PROJECT, RunId
from agentflow.domain.pause import Pause
from agentflow.domain.reason import ReasonCode
from agentflow.domain.state import RunFacts, RunState, ShownRunState, shown_state
from agentflow.storage import retention
from agentflow.storage.database import statement
from agentflow.storage.view_shapes import (
    ArtifactView,
    EventView,
    RunSummary,
)

LAST = "@last"
_HEX = re.compile(r"[0-9a-f]{4,32}")
_ID_DIGITS = 32
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


def whole_id(reference: str) -> RunId | None:
    """Return the id that a person gives whole; None for what has to be looked for."""
    digits = _digits(reference)
    return RunId(UUID(digits)) if _HEX.fullmatch(digits) and len(digits) == _ID_DIGITS else None


def find_run(tx: Connection, reference: str, project: str | None = None) -> RunId:
    """Return the run that a person names: by its id, a prefix of at least 4 hex digits, or ``@last``.

    ``@last`` is a smoke test's run only in its own project. UsageError when that is none of the three, NotFound when
    there is no such run (in ``project``), AmbiguousId when the prefix fits several.
    """
    if reference == LAST:
        last = tx.execute(
            statement("view_last_run"), {"project": project, "left_out": SMOKE_PROJECT}
        ).scalar_one_or_none()
        if last is None:
            raise NotFound(f"There is no run yet{_within(project)}.", reference=reference)
        return RunId(last)
    digits = _digits(reference)
    if not _HEX.fullmatch(digits):
        raise UsageError(f"{reference!r} names no run: give its id, at least 4 digits of it, or {LAST}.")
    low, high = UUID(digits.ljust(_ID_DIGITS, "0")), UUID(digits.ljust(_ID_DIGITS, "f"))
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


def _digits(reference: str) -> str:
    return reference.strip().lower().replace("-", "")


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
    return summary_of(tx, row)


def summary_of(tx: Connection, row: Row[Any]) -> RunSummary:
    """Make the summary of a row that has the columns of view_run."""
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
