"""Expire: what becomes of a gate that nobody decided in time; the dispatcher's wake asks, under the locks.

It is denied, approved, or handed on once to others, who have as long again; then it is denied.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from sqlalchemy import Connection

from agentflow.domain.beginning import Ends
from agentflow.domain.gate import GateState, approved_by, values_given
from agentflow.domain.gate_form import completed
from agentflow.domain.gate_shape import Gate
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.state import StepState
from agentflow.engine.conclude import Held, Verdict
from agentflow.engine.decide import approve
from agentflow.engine.open_gate import awaits
from agentflow.storage import engine_steps, gates

BY_EXPIRY = "expiry"
"""Who is said to have approved a gate that the plan lets pass when nobody decides it."""


def expired(tx: Connection, held: Held) -> Verdict | None:
    """Decide what becomes of a gate whose time is over; None where it is not."""
    gate = gates.read(tx, held.step.id)
    if gate is None or gate.state is not GateState.OPEN or gate.expires_at is None or gate.expires_at > held.run.at:
        return None
    terms, given = gate.terms, approved_by(gate.decisions)
    facts = {"gate": gate.kind.value, "round": gate.round, "given": len(given), "count": terms.count}
    if terms.on_expiry == "escalate" and not gate.is_escalated and terms.expires_seconds is not None:
        return _escalate(tx, held, gate, facts, timedelta(seconds=terms.expires_seconds))
    if terms.on_expiry == "approve":
        filled, missing = completed(terms.form, values_given(gate.decisions))
        if not missing:
            ends = approve(tx, held, gate, (*given, BY_EXPIRY), filled)
            return Verdict(ends, {**facts, "expired": "approved"})
    gates.close(tx, gate.id, GateState.EXPIRED)
    return Verdict(Ends(StepState.FAILED, Reason(ReasonCode.EXPIRED)), {**facts, "expired": "denied"})


def _escalate(tx: Connection, held: Held, gate: Gate, facts: dict[str, Any], length: timedelta) -> Verdict:
    expires_at = held.run.at + length
    gates.escalate(tx, gate.id, expires_at)
    reason = awaits(gate.terms, facts["given"], expires_at)
    engine_steps.tell_held(tx, held.step.id, reason, expires_at)
    return Verdict(None, {**facts, "expired": "escalated", "approvers": list(gate.terms.escalate_to)})
