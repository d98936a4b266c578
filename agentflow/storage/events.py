"""Audit events: appending to a chain and reading chains back. The database refuses any change to what was written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row

from agentflow.domain.event import AuditEvent
from agentflow.domain.ids import INSTALLATION_CHAIN, RunId, StepId
from agentflow.storage import deeds
from agentflow.storage.database import statement, to_json


def append(tx: Connection, event: AuditEvent, mac: bytes) -> None:
    """Append an event behind the head it was linked to; the caller holds the row that carries the head."""
    parameters = {
        "run_id": event.run_id,
        "sequence": event.sequence,
        "at": event.at,
        "actor": event.actor,
        "action": event.action,
        "subject": event.subject,
        "moved": to_json(dict(event.moved)),
        "reason": to_json(dict(event.reason)) if event.reason is not None else None,
        "verdict": event.verdict,
        "facts": to_json(dict(event.facts)),
        "mac": mac,
    }
    if event.run_id == INSTALLATION_CHAIN:
        tx.execute(statement("append_installation_event"), parameters).one()
    elif event.step_id is None:
        tx.execute(statement("append_run_event"), parameters).one()
    else:
        tx.execute(statement("append_step_event"), {**parameters, "step_id": event.step_id}).one()
    deeds.note(tx)


def read_run(tx: Connection, run_id: RunId) -> Iterator[tuple[AuditEvent, bytes]]:
    """Read every event of a run with its MAC: the run's own chain first, then step by step, each in order."""
    rows = tx.execute(statement("read_events"), {"run_id": run_id})
    return ((_event(row), bytes(row.mac)) for row in rows)


@dataclass(frozen=True, slots=True)
class OwnChain:
    """The installation's own chain, with the head that its row carries."""

    head_sequence: int
    head: bytes | None
    recorded: tuple[tuple[AuditEvent, bytes], ...]


def hold_snapshot(tx: Connection) -> None:
    """Let every read of a transaction that has just begun be of one moment."""
    tx.execute(statement("hold_snapshot"))


def read_own_chain(tx: Connection) -> OwnChain | None:
    """Read the installation's own chain and its head, of one moment; None before the installation is registered."""
    rows = tx.execute(statement("read_installation_events")).all()
    if not rows:
        return None
    head = None if rows[0].head is None else bytes(rows[0].head)
    recorded = tuple((_event(row), bytes(row.mac)) for row in rows if row.mac is not None)
    return OwnChain(rows[0].head_sequence, head, recorded)


def _event(row: Row[Any]) -> AuditEvent:
    return AuditEvent(
        run_id=RunId(row.run_id),
        step_id=StepId(row.step_id) if row.step_id else None,
        sequence=row.sequence,
        at=row.at,
        actor=row.actor,
        action=row.action,
        subject=row.subject,
        moved=row.moved,
        reason=row.reason,
        verdict=row.verdict,
        facts=row.facts,
    )


def read_moves(tx: Connection, run_id: RunId) -> dict[str, str]:
    """Read where the events of a run left each subject (``run``, ``step:<key>``): the last state that they tell.

    Events are in the order of their ids: who moves a row holds it until his event is written.
    """
    rows = tx.execute(statement("read_last_moves"), {"run_id": run_id})
    return {row.subject: row.state for row in rows}


def read_all_run_ids(tx: Connection) -> list[RunId]:
    """Read the id of every run that has rows or events."""
    return [RunId(row) for row in tx.execute(statement("read_audited_runs")).scalars()]
