"""Gates and what was said to them: opening, deciding, closing, and reading them for surfaces."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row

from agentflow.domain.gate import Decision, GateKind, GateState, GateTerms, Verdict
from agentflow.domain.gate_finding import LeftFile
from agentflow.domain.gate_shape import Gate, GateView, by_items
from agentflow.domain.ids import RunId, StepId, StepKey
from agentflow.storage.database import statement, to_json


@dataclass(frozen=True, slots=True)
class NewGate:
    """A gate as it is opened; its state is another one if it decided itself."""

    id: UUID
    step_id: StepId
    state: GateState
    round: int
    terms: GateTerms
    facts: Mapping[str, Any]
    expires_at: datetime | None = None

    def as_json(self) -> dict[str, Any]:
        """Write it as the statement reads it."""
        return {
            "id": str(self.id),
            "step_id": str(self.step_id),
            "kind": self.terms.kind,
            "state": self.state,
            "round": self.round,
            "terms": self.terms.model_dump(mode="json", exclude_none=True),
            "facts": dict(self.facts),
            "expires_at": None if self.expires_at is None else self.expires_at.isoformat(),
        }


@dataclass(frozen=True, slots=True)
class GateCounts:
    """How often a step opened a gate: in all, and in one round of its run."""

    every: int
    in_round: int


def insert(tx: Connection, run_id: RunId, opened: Sequence[NewGate]) -> None:
    """Write gates of a run that the caller holds alone."""
    tx.execute(statement("insert_gates"), {"run_id": run_id, "gates": to_json([gate.as_json() for gate in opened])})


def count(tx: Connection, step_ids: Collection[StepId], run_round: int) -> dict[StepId, GateCounts]:
    """Count the gates that each of some steps opened."""
    rows = tx.execute(statement("count_gates"), {"step_ids": list(step_ids), "run_round": run_round})
    found = {StepId(row.step_id): GateCounts(row.every, row.in_round) for row in rows}
    return {step_id: found.get(step_id, GateCounts(0, 0)) for step_id in step_ids}


def note_decision(
    tx: Connection,
    gate_id: UUID,
    actor: str,
    verdict: Verdict,
    *,
    why: str | None = None,
    given: Mapping[str, Any] | None = None,
) -> None:
    """Write down what somebody says to a gate."""
    _note(tx, [{"gate_id": str(gate_id), "actor": actor, "verdict": verdict, "why": why, "given": given or None}])


def note_verdicts(tx: Connection, actor: str, verdicts: Mapping[UUID, Verdict]) -> None:
    """Write down what one says to several gates."""
    if verdicts:
        _note(tx, [{"gate_id": str(gate), "actor": actor, "verdict": said} for gate, said in verdicts.items()])


def _note(tx: Connection, said: Sequence[Mapping[str, Any]]) -> None:
    tx.execute(statement("insert_gate_decisions"), {"said": to_json(said)})


def close(tx: Connection, gate_id: UUID, state: GateState) -> None:
    """Decide an open gate of a run that the caller holds."""
    tx.execute(statement("close_gate"), {"id": gate_id, "state": state}).one()


def escalate(tx: Connection, gate_id: UUID, expires_at: datetime) -> None:
    """Hand an open gate on to those whom its terms name for that."""
    tx.execute(statement("escalate_gate"), {"id": gate_id, "expires_at": expires_at}).one()


def withdraw(tx: Connection, step_ids: Collection[StepId]) -> None:
    """Close the open gates of steps that go on, or end, without a decision."""
    if step_ids:
        tx.execute(statement("withdraw_gates"), {"step_ids": list(step_ids)})


def read(tx: Connection, step_id: StepId) -> Gate | None:
    """Read the newest gate of a step; None when it never opened one."""
    row = tx.execute(statement("read_gate"), {"step_id": step_id}).one_or_none()
    return None if row is None else _gate(row, _read_decisions(tx, [row.id])[row.id])


def view(
    tx: Connection,
    *,
    run_id: RunId | None = None,
    project: str | None = None,
    is_open: bool,
    is_tree: bool = False,
    limit: int = 1000,
) -> list[GateView]:
    """Read gates in the order in which they were opened: of a run, or of all; ``is_open`` only those that wait.

    ``is_tree``: of the runs below the run, too. Those that wait inside of a foreach are in the order of its items.
    """
    parameters = {"run_id": run_id, "project": project, "is_open": is_open, "is_tree": is_tree, "limit": limit}
    rows = tx.execute(statement("view_gates"), parameters).all()
    decisions = _read_decisions(tx, [row.id for row in rows])
    found = [
        GateView(
            RunId(row.run_id),
            StepId(row.step_id),
            StepKey(row.key),
            row.project,
            row.plan_name,
            row.submitted_by,
            row.read_at,
            _gate(row, decisions[row.id]),
        )
        for row in rows
    ]
    return by_items(found) if is_open else found


def read_submitters(tx: Connection, run_id: RunId) -> frozenset[str]:
    """Read who submitted a run, and those above it."""
    return frozenset(tx.execute(statement("read_submitters"), {"run_id": run_id}).scalars())


def read_left_files(tx: Connection, run_id: RunId, keys: Iterable[StepKey]) -> dict[StepKey, list[LeftFile]]:
    """Read which files the last attempts of some steps left, by step."""
    wanted = list(keys)
    left: dict[StepKey, list[LeftFile]] = defaultdict(list)
    for row in tx.execute(statement("read_left_files"), {"run_id": run_id, "keys": wanted}) if wanted else ():
        left[StepKey(row.key)].append(LeftFile(StepKey(row.key), row.name, row.bytes, row.sha256))
    return dict(left)


def set_vars(tx: Connection, run_id: RunId, values: Mapping[str, Any]) -> None:
    """Add what was filled in to the vars of a run that the caller holds alone."""
    if values:
        tx.execute(statement("set_run_vars"), {"run_id": run_id, "given": to_json(dict(values))})


def _read_decisions(tx: Connection, gate_ids: Sequence[UUID]) -> dict[UUID, tuple[Decision, ...]]:
    found: dict[UUID, list[Decision]] = {gate_id: [] for gate_id in gate_ids}
    for row in tx.execute(statement("read_gate_decisions"), {"gate_ids": list(gate_ids)}) if gate_ids else ():
        found[row.gate_id].append(Decision(row.actor, Verdict(row.verdict), row.at, row.why, row.given))
    return {gate_id: tuple(said) for gate_id, said in found.items()}


def _gate(row: Row[Any], decisions: tuple[Decision, ...]) -> Gate:
    return Gate(
        id=row.id,
        state=GateState(row.state),
        kind=GateKind(row.kind),
        round=row.round,
        terms=GateTerms.model_validate(row.terms),
        facts=row.facts,
        plan_fingerprint=row.plan_fingerprint,
        opened_at=row.opened_at,
        expires_at=row.expires_at,
        is_escalated=row.is_escalated,
        decided_at=row.decided_at,
        decisions=decisions,
    )
