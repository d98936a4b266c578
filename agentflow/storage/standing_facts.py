"""The facts from which it is computed why a run or a step does not go on: one snapshot of Postgres.

Owns the reading; a fixed few statements, whatever the number of steps. What follows from them is domain/why.py's, and
how many messages wait is Redis'.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row

from agentflow.domain.blame import SUSPECTED_FROM
from agentflow.domain.error import NotFound
from agentflow.domain.gate_shape import GateView
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.reason import ReasonCode
from agentflow.domain.state import FINAL_STEP_STATES, RunState, StepState
from agentflow.domain.why_facts import (
    AttemptFacts,
    Facts,
    HolderFacts,
    ItemsFacts,
    LeaderFacts,
    LineFacts,
    QueueFacts,
    StandingFacts,
    StepFacts,
    SuspectFacts,
    Terms,
    TurnFacts,
    WorkerFacts,
)
from agentflow.domain.wording import did_you_mean
from agentflow.storage import gates, runs, workers
from agentflow.storage.database import statement
from agentflow.storage.retention import missing_run


@dataclass(frozen=True, slots=True)
class _Places:
    """What is known of steps beside their rows, by the ids of the rows."""

    needs: Mapping[UUID, Sequence[UUID]]
    lines: Mapping[UUID, LineFacts]
    newness: Mapping[UUID, int]
    asking: Mapping[tuple[str, str], int]


def read_facts(
    tx: Connection, run_id: RunId, service: str, terms: Terms, step: StepKey | None = None, seen_by: str | None = None
) -> Facts:
    """Read how a run stands, as the first thing of a transaction. NotFound when it has no step of that name.

    ``service`` is the dispatchers' name as leaders, ``seen_by`` the project of who asks, None for all. How many
    messages wait is left unknown.
    """
    tx.execute(statement("hold_snapshot"))
    row = tx.execute(statement("why_run"), {"run_id": run_id, "service": service}).one_or_none()
    if row is None:
        raise missing_run(tx, run_id)
    parameters = {"run_id": run_id, "step": step, "suspected_from": SUSPECTED_FROM}
    rows = tx.execute(statement("why_steps"), parameters).all()
    if step is not None and step not in {each.key for each in rows}:
        raise _unknown(tx, run_id, step)
    places = _read_places(tx, run_id, rows)
    asks = any((each.reason or {}).get("code") == ReasonCode.AWAITS_DECISION for each in rows)
    asked = {view.step: view for view in gates.view(tx, run_id=run_id, is_open=True)} if asks else {}
    keys = {each.id: each.key for each in rows if each.state not in FINAL_STEP_STATES}
    foreachs = {each.key: each for each in rows if each.children is not None}
    return Facts(
        now=row.now,
        run=_run(row, run_id, tx),
        steps={each.key: _step(each, places, keys, asked.get(each.key), foreachs) for each in rows},
        queues=_read_queues(tx, {each.queue for each in rows}),
        leader=None if row.holder is None else LeaderFacts(row.holder, row.term, row.expires_at, row.is_leading),
        terms=terms,
        suspect=_read_suspect(tx) if any(each.is_suspect for each in rows) else None,
        seen_by=seen_by,
    )


def _read_suspect(tx: Connection) -> SuspectFacts | None:
    row = tx.execute(statement("why_suspect"), {"suspected_from": SUSPECTED_FROM}).one_or_none()
    return None if row is None else SuspectFacts(row.run_id, StepKey(row.step), StepState(row.state), row.project)


def _unknown(tx: Connection, run_id: RunId, step: StepKey) -> NotFound:
    known = [row.key for row in tx.execute(statement("view_steps"), {"run_id": run_id})]
    return NotFound(f"Run {run_id} has no step {step!r}: {did_you_mean(step, known)}", run_id=str(run_id), step=step)


def _run(row: Row[Any], run_id: RunId, tx: Connection) -> StandingFacts:
    return StandingFacts(
        id=run_id,
        state=RunState(row.state),
        reason=row.reason,
        paused=row.paused,
        exhausted=tuple(row.exhausted or ()),
        maintenance=row.maintenance,
        caps=runs.read_budget(tx, run_id),
        tally={StepState(state): count for state, count in (row.tally or {}).items()},
    )


def _read_places(tx: Connection, run_id: RunId, rows: Sequence[Row[Any]]) -> _Places:
    needs: defaultdict[UUID, list[UUID]] = defaultdict(list)
    for edge in tx.execute(statement("why_needs"), {"run_id": run_id}):
        needs[edge.to_step].append(edge.from_step)
    has_lines = any(row.slot_key for row in rows)
    newness = {row.id: row.newness for row in tx.execute(statement("why_doorbells"), {"run_id": run_id})}
    has_rates = any(row.rate_key for row in rows)
    asking = tx.execute(statement("count_asking")) if has_rates else ()
    return _Places(
        needs,
        _read_lines(tx, run_id) if has_lines else {},
        newness,
        {(row.queue, row.rate_key): row.steps for row in asking},
    )


def _read_lines(tx: Connection, run_id: RunId) -> dict[UUID, LineFacts]:
    rows = tx.execute(statement("why_lines"), {"run_id": run_id}).all()
    holders: defaultdict[str, list[HolderFacts]] = defaultdict(list)
    for key, *holder in tx.execute(statement("why_holders"), {"keys": sorted({row.slot_key for row in rows})}):
        holders[key].append(HolderFacts(*holder))
    return {row.id: LineFacts(row.turn, row.free, row.slot_limit, tuple(holders[row.slot_key])) for row in rows}


def _read_queues(tx: Connection, names: set[str]) -> dict[str, QueueFacts]:
    rows, known = workers.view_queues(tx, names), workers.view_workers(tx)
    return {
        name: QueueFacts(
            name, None, rows[name].outstanding, tuple(_worker(each) for each in known if name in each.queues)
        )
        for name in names
    }


def _worker(worker: workers.WorkerView) -> WorkerFacts:
    return WorkerFacts(worker.name, worker.is_serving, worker.seen_at, worker.slots, len(worker.work))


def _step(
    row: Row[Any], places: _Places, keys: Mapping[UUID, str], gate: GateView | None, foreachs: Mapping[str, Row[Any]]
) -> StepFacts:
    attempt = None
    if row.number is not None:
        attempt = AttemptFacts(
            row.number, row.worker, row.started_at, row.lease_until, row.is_stop_requested, row.is_yield_requested
        )
    return StepFacts(
        key=StepKey(row.key),
        position=row.position,
        state=StepState(row.state),
        queue=row.queue,
        reason=row.reason,
        attempts=row.attempts,
        not_before=row.not_before,
        sent_at=row.sent_at,
        newness=places.newness.get(row.id),
        attempt=attempt,
        needs=tuple(StepKey(keys[need]) for need in places.needs.get(row.id, ()) if need in keys),
        slot_key=row.slot_key,
        line=places.lines.get(row.id),
        rate_key=row.rate_key,
        has_ticket=row.has_ticket,
        asking=places.asking.get((row.queue, row.rate_key), 0),
        is_suspect=row.is_suspect,
        choice=row.choice,
        gate=gate,
        items=_items(row),
        turn=_turn(row, foreachs.get(row.parent)) if row.awaits_turn else None,
        has_logs=bool(row.has_logs),
    )


def _items(row: Row[Any]) -> ItemsFacts | None:
    if row.children is None:
        return None
    return ItemsFacts(row.children, row.children - row.needs_open, row.children - row.released)


def _turn(row: Row[Any], foreach: Row[Any] | None) -> TurnFacts | None:
    if foreach is None or foreach.children is None:
        return None
    awaiting = foreach.children - foreach.released
    return TurnFacts(StepKey(foreach.key), row.item, foreach.needs_open - awaiting, awaiting)
