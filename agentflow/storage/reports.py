"""Reports: reading everything that a report of a run holds, in a fixed few statements.

Owns what leaves Postgres for a report: of results hash and size, of filled-in forms the names of their fields, of
events those facts that are known to be figures and labels. Reads only; the shapes are domain/report.py's.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from agentflow.domain.budget import usd_of
from agentflow.domain.ids import RunId
from agentflow.domain.report import (
    INTERVENTIONS,
    ROUTINE,
    Audit,
    Cap,
    Descent,
    File,
    GateEntry,
    Happening,
    Head,
    ModelEntry,
    Pruned,
    Report,
    Result,
    Said,
    StepEntry,
    Timeline,
    Try,
)
from agentflow.domain.tombstone import Tombstone
from agentflow.storage import balances, forks, spending, views
from agentflow.storage.active_time import ActiveTime, read_active_time
from agentflow.storage.database import statement
from agentflow.storage.view_shapes import RunSummary

MOST_EVENTS = 500
"""How many events a timeline has; what every attempt leaves goes first where there are more."""
MOST_INTERVENTIONS = 500
TOLD = frozenset(
    {
        "active_seconds", "as", "attempt", "budget", "choice", "count", "exit_code", "gate", "how", "is_hard", "kind",
        "name", "priority", "redo", "round", "running", "set", "step", "steps", "timeout_seconds", "tokens", "usd_nano",
        "verdict", "why",
    }
)  # fmt: skip
"""The facts of events that a report tells: figures and labels of the plan, and what somebody gave as the reason."""


def read_report(tx: Connection, run_id: RunId, *, has_vars: bool = False) -> Report:
    """Read a run for its report; var values only with ``has_vars``. NotFound when there is none."""
    summary = views.read_summary(tx, run_id)
    row = tx.execute(statement("view_report_head"), {"run_id": run_id}).one()
    happened = list(_events(tx, run_id, left_out=[], limit=MOST_INTERVENTIONS, only=sorted(INTERVENTIONS)))
    return Report(
        head=_head(summary, row, read_active_time(tx, run_id)),
        audit=_audit(row),
        vars=row.vars if has_vars else dict.fromkeys(row.vars),
        has_vars=has_vars,
        budget=tuple(_cap(line.as_json()) for line in balances.read_caps(tx, run_id)),
        timeline=_timeline(tx, run_id),
        steps=tuple(_steps(tx, run_id)),
        usage=tuple(_usage(tx, run_id)),
        gates=tuple(_gate(each) for each in tx.execute(statement("view_report_gates"), {"run_id": run_id})),
        interventions=tuple(happened),
        files=tuple(File(**_named(each, File)) for each in views.read_artifacts(tx, run_id)),
        lineage=_lineage(tx, run_id, row),
    )


def report_of_pruned(stone: Tombstone) -> Report:
    """Return what can still be said of a run that was pruned."""
    head = Head(
        run=stone.run_id,
        project=stone.project,
        plan=stone.plan_name,
        fingerprint=stone.plan_fingerprint,
        directive=None,
        mode=None,
        actor=None,
        state=stone.state.value,
        reason=None,
        round=stone.round,
        created_at=stone.created_at,
        started_at=None,
        ended_at=stone.ended_at,
        read_at=stone.pruned_at,
        active_seconds=None,
        rested_seconds=None,
    )
    audit = Audit(stone.event_count, None, stone.event_head, stone.seal, None, None)
    used = Pruned(stone.pruned_at, stone.pruned_by, stone.input_tokens, stone.output_tokens, usd_of(stone.usd_nano))
    return Report(head, audit, {}, pruned=used)


def _head(summary: RunSummary, row: Row[Any], time: ActiveTime) -> Head:
    return Head(
        run=summary.id,
        project=summary.project,
        plan=summary.plan_name,
        fingerprint=summary.plan_fingerprint,
        directive=row.directive,
        mode=row.mode,
        actor=summary.actor,
        state=summary.state.value,
        reason=summary.reason,
        round=summary.round,
        created_at=summary.created_at,
        started_at=summary.started_at,
        ended_at=summary.ended_at,
        read_at=summary.read_at,
        active_seconds=time.active,
        rested_seconds=time.rested,
    )


def _audit(row: Row[Any]) -> Audit:
    ending = row.ending or {}
    return Audit(
        events=row.events,
        sequence=row.event_sequence,
        head=row.event_head,
        seal=ending.get("seal"),
        sealed_chains=ending.get("sealed_chains"),
        checkpoint=row.checkpoint,
    )


def _cap(line: Mapping[str, Any]) -> Cap:
    return Cap(**line)


def _timeline(tx: Connection, run_id: RunId) -> Timeline:
    counts = {row.action: row.events for row in tx.execute(statement("count_report_events"), {"run_id": run_id})}
    left_out = list(ROUTINE) if sum(counts.values()) > MOST_EVENTS else []
    entries = tuple(_events(tx, run_id, left_out=left_out, limit=MOST_EVENTS))
    for entry in entries:
        counts[entry.action] -= 1
    return Timeline(entries, {action: count for action, count in counts.items() if count > 0})


def _events(
    tx: Connection, run_id: RunId, *, left_out: list[str], limit: int, only: list[str] | None = None
) -> Iterable[Happening]:
    parameters = {"run_id": run_id, "left_out": left_out, "only": only, "limit": limit}
    for row in tx.execute(statement("view_report_events"), parameters):
        yield Happening(
            at=row.at,
            actor=row.actor,
            action=row.action,
            subject=row.subject,
            old=row.old,
            new=row.new,
            moved=row.moved,
            reason=row.reason,
            verdict=row.verdict,
            detail={name: value for name, value in row.facts.items() if name in TOLD and value is not None},
        )


def _steps(tx: Connection, run_id: RunId) -> Iterable[StepEntry]:
    tries: dict[str, list[Try]] = defaultdict(list)
    for row in tx.execute(statement("view_attempts"), {"run_id": run_id}):
        tries[row.key].append(Try(**_named(row, Try)))
    for row in tx.execute(statement("view_report_steps"), {"run_id": run_id}):
        yield StepEntry(
            id=row.key,
            action=row.action,
            state=row.state,
            reason=row.reason,
            foreach=row.parent,
            item=row.item,
            items=row.children,
            choice=row.choice,
            result=_result(row.result) if row.has_result else None,
            attempts=tuple(tries[row.key]),
        )


def _result(value: Any) -> Result:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    return Result(hashlib.sha256(text).hexdigest(), len(text))


def _usage(tx: Connection, run_id: RunId) -> Iterable[ModelEntry]:
    for each in spending.read_usage(tx, run_id):
        counts = asdict(each)
        yield ModelEntry(usd=usd_of(counts.pop("usd_nano")), **counts)


def _gate(row: Row[Any]) -> GateEntry:
    terms: Mapping[str, Any] = row.terms
    approvers = terms.get("escalate_to") if row.is_escalated else terms.get("approvers")
    return GateEntry(
        step=row.key,
        kind=row.kind,
        state=row.state,
        round=row.round,
        needed=int(terms.get("count") or 1),
        approvers=tuple(approvers or ()),
        plan_fingerprint=row.plan_fingerprint,
        opened_at=row.opened_at,
        expires_at=row.expires_at,
        is_escalated=row.is_escalated,
        decided_at=row.decided_at,
        decisions=tuple(
            Said(actor, verdict, datetime.fromisoformat(at), why, tuple(fields or ()))
            for actor, verdict, at, why, fields in row.decisions
        ),
    )


def _lineage(tx: Connection, run_id: RunId, row: Row[Any]) -> Descent:
    forked = forks.read_lineage(tx, run_id)
    return Descent(
        forked_from=forked.forked_from,
        forked_at_step=forked.forked_at_step,
        forks=forked.forks,
        parent_run=row.parent_run,
        parent_step=row.parent_step,
        children=tuple(row.children),
    )


def _named(row: Any, shape: type) -> dict[str, Any]:
    """The fields of ``shape`` as a row or another shape has them."""
    return {name: getattr(row, name) for name in shape.__dataclass_fields__}  # type: ignore[attr-defined]  # a dataclass
