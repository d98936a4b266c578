"""Retention: finding ended runs that may go, taking them and old firings out, and what stays of them.

Owns the tombstones and the plans that nobody uses any more. The rows and events of a run leave by one function of the
database (migration 0003); when, and what is recorded of it, is engine/prune.py's.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row

from agentflow.domain.budget import usd_of
from agentflow.domain.error import NotFound, RunPruned
from agentflow.domain.ids import RunId
from agentflow.domain.state import RunState
from agentflow.domain.tombstone import Tombstone
from agentflow.storage.database import Database, statement


@dataclass(frozen=True, slots=True)
class Prunable:
    """What a pruning would take."""

    runs: int
    first_ended_at: datetime | None
    last_ended_at: datetime | None
    artifact_bytes: int


@dataclass(frozen=True, slots=True)
class FoldedSums:
    """What pruned runs used: as it was folded for the budgets, and as their tombstones say it."""

    folded: tuple[int, int, int]
    told: tuple[int, int, int]


def find_prunable(
    tx: Connection, older_than_seconds: float, limit: int, except_ids: Collection[RunId] = ()
) -> list[RunId]:
    """Find runs that ended long enough ago, the oldest first, but for some."""
    parameters = {"older_than_seconds": older_than_seconds, "limit": limit, "except_ids": list(except_ids)}
    return [RunId(row) for row in tx.execute(statement("find_prunable_runs"), parameters).scalars()]


def find_below(tx: Connection, run_ids: Sequence[RunId]) -> list[RunId]:
    """Find all runs below some."""
    return [RunId(row) for row in tx.execute(statement("find_runs_below"), {"run_ids": list(run_ids)}).scalars()]


def survey(tx: Connection, older_than_seconds: float, limit: int | None) -> Prunable:
    """Read what a pruning would take."""
    parameters = {"older_than_seconds": older_than_seconds, "limit": limit}
    row = tx.execute(statement("survey_prunable_runs"), parameters).one()
    return Prunable(row.runs, row.first_ended_at, row.last_ended_at, int(row.artifact_bytes))


def lock(tx: Connection, run_ids: Sequence[RunId], older_than_seconds: float) -> list[RunId]:
    """Take ended runs to prune them, without a wait; not those that somebody is at or that are not old enough."""
    parameters = {"run_ids": list(run_ids), "older_than_seconds": older_than_seconds}
    return [RunId(row) for row in tx.execute(statement("lock_prunable_runs"), parameters).scalars()]


def prune(tx: Connection, run_ids: Sequence[RunId], actor: str) -> list[Tombstone]:
    """Take out runs that are locked, with all their rows and events; returns what stays.

    ConflictingWrite when it takes longer than a statement may: none of them went then, and the transaction goes on.
    """
    with Database.savepoint(tx):
        rows = tx.execute(statement("prune_runs"), {"run_ids": list(run_ids), "actor": actor})
        return [_tombstone(row) for row in rows]


def forget_plans(tx: Connection, fingerprints: Iterable[str]) -> int:
    """Delete those plans that nobody uses any more; returns how many."""
    held = list(tx.execute(statement("lock_plans"), {"fingerprints": sorted(set(fingerprints))}).scalars())
    return len(tx.execute(statement("delete_plans"), {"fingerprints": held}).all()) if held else 0


def delete_old_firings(tx: Connection, older_than_seconds: float, limit: int) -> int:
    """Delete firings that were decided long enough ago, those noted first; returns how many."""
    parameters = {"older_than_seconds": older_than_seconds, "limit": limit}
    return len(tx.execute(statement("delete_old_firings"), parameters).all())


def find_left_content(tx: Connection, limit: int) -> list[RunId]:
    """Find pruned runs whose content may still lie in the store, those that nobody tried yet first."""
    return [RunId(row) for row in tx.execute(statement("find_left_content"), {"limit": limit}).scalars()]


def note_content_gone(tx: Connection, run_ids: Sequence[RunId]) -> None:
    """Note that nothing of these pruned runs lies in the store any more."""
    tx.execute(statement("note_content_gone"), {"run_ids": list(run_ids)})


def note_content_resists(tx: Connection, run_ids: Sequence[RunId]) -> None:
    """Note that the content of these pruned runs could not be removed now; others are tried before them."""
    tx.execute(statement("note_content_resists"), {"run_ids": list(run_ids)})


def missing_run(tx: Connection, run_id: RunId) -> NotFound:
    """Return the error for a run that is not there: RunPruned if it once was."""
    tombstone = read_tombstone(tx, run_id)
    return NotFound(f"There is no run {run_id}", run_id=str(run_id)) if tombstone is None else pruned_run(tombstone)


def pruned_run(tombstone: Tombstone) -> RunPruned:
    """Return the error for a run that was pruned: when and by whom, how it ended, what it used."""
    used = f"{tombstone.input_tokens + tombstone.output_tokens:,} tokens, ${usd_of(tombstone.usd_nano):.6f}"
    return RunPruned(
        f"Run {tombstone.run_id} (plan {tombstone.plan_name}) was pruned {_moment(tombstone.pruned_at)} by "
        f"{tombstone.pruned_by}. It ended {tombstone.state} {_moment(tombstone.ended_at)} and had used {used}.",
        **tombstone.as_json(),
    )


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def find_tombstones(tx: Connection, low: UUID, high: UUID, project: str | None, limit: int) -> list[Tombstone]:
    """Find the tombstones of runs whose id lies in a range."""
    parameters = {"low": low, "high": high, "project": project, "limit": limit}
    return [_tombstone(row) for row in tx.execute(statement("find_tombstones"), parameters)]


def read_tombstone(tx: Connection, run_id: RunId) -> Tombstone | None:
    """Read the tombstone of a run; None if it was not pruned."""
    return next(iter(find_tombstones(tx, run_id, run_id, None, 1)), None)


def read_all(tx: Connection) -> list[Tombstone]:
    """Read every tombstone, batch by batch."""
    return [_tombstone(row) for row in tx.execute(statement("read_tombstones"))]


def read_folded(tx: Connection) -> FoldedSums:
    """Read what pruned runs used in all."""
    row = tx.execute(statement("read_folded_usage")).one()
    return FoldedSums(
        (int(row.input_tokens), int(row.output_tokens), int(row.usd_nano)),
        (int(row.told_input_tokens), int(row.told_output_tokens), int(row.told_usd_nano)),
    )


def _tombstone(row: Row[Any]) -> Tombstone:
    return Tombstone(
        run_id=RunId(row.run_id),
        project=row.project,
        plan_name=row.plan_name,
        plan_fingerprint=row.plan_fingerprint,
        state=RunState(row.state),
        created_at=row.created_at,
        ended_at=row.ended_at,
        round=row.round,
        seal=row.seal,
        event_count=row.event_count,
        event_head=bytes(row.event_head).hex(),
        input_tokens=row.input_tokens,
        output_tokens=row.output_tokens,
        usd_nano=row.usd_nano,
        pruned_by=row.pruned_by,
        pruned_at=row.pruned_at,
    )
