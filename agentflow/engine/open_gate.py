"""Open gates: write down what a step asks people for as it begins, or what it decides itself.

Inside a verb's transaction. A gate's row holds the terms as they are now and what was found: counts, names and hashes
of files, how checks ended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from sqlalchemy import Connection

from agentflow.domain.beginning import Beginning, Ends, Holds
from agentflow.domain.gate import GATE_ACTOR, GateState, GateTerms, Verdict
from agentflow.domain.gate_finding import Findings, find, own_verdict
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.state import StepState
from agentflow.engine.context import PlanView
from agentflow.engine.gather import Scope
from agentflow.engine.record import Moves
from agentflow.storage import gates, runs, steps


def with_gates(
    tx: Connection,
    plan: PlanView,
    run: runs.LockedRun,
    begun: Sequence[tuple[steps.Successor, Beginning]],
    moves: Moves,
) -> list[tuple[steps.Successor, Beginning]]:
    """Open the gates of the steps that begin with one; what a gate decides itself ends its step at once."""
    return [
        (step, _open(tx, plan, run, step, how, how.gate, moves) if isinstance(how, Holds) and how.gate else how)
        for step, how in begun
    ]


def _open(
    tx: Connection,
    plan: PlanView,
    run: runs.LockedRun,
    step: steps.Successor,
    how: Holds,
    terms: GateTerms,
    moves: Moves,
) -> Beginning:
    findings = _find(tx, run.run_id, Scope(plan.plan, step.key), terms)
    verdict = own_verdict(terms, findings)
    counts = gates.count(tx, step.id, run.round)
    expires_at = None if terms.expires_seconds is None else run.at + timedelta(seconds=terms.expires_seconds)
    state = {None: GateState.OPEN, Verdict.APPROVE: GateState.APPROVED, Verdict.REJECT: GateState.REJECTED}[verdict]
    facts = {**findings.as_json(), "run_round": run.round}
    opened = gates.NewGate(
        uuid4(), run.run_id, step.id, state, counts.every + 1, terms, facts, None if verdict else expires_at
    )
    gates.insert(tx, opened)
    moves.note("opened", step.key, {"kind": terms.kind.value, "round": opened.round, "state": state.value})
    if verdict is None:
        return Holds(awaits(terms, 0, expires_at), due_at=expires_at)
    gates.note_decision(tx, opened.id, GATE_ACTOR, verdict)
    return _decided(findings, verdict)


def awaits(terms: GateTerms, given: int, expires_at: datetime | None) -> Reason:
    """Why a step is held whose gate is open."""
    detail = {"kind": terms.kind.value, "given": given, "count": terms.count}
    expiry = {} if expires_at is None else {"expires_at": _stamp(expires_at)}
    return Reason(ReasonCode.AWAITS_DECISION, {**detail, **expiry})


def _decided(findings: Findings, verdict: Verdict) -> Ends:
    if verdict is Verdict.APPROVE:
        return Ends(StepState.SUCCEEDED, result={"approved_by": [GATE_ACTOR], "form": {}})
    blocked = {"checks": list(findings.blocked)} if findings.blocked else {"artifacts": findings.artifacts}
    return Ends(StepState.FAILED, Reason(ReasonCode.REJECTED, {"actor": GATE_ACTOR, **blocked}))


def _find(tx: Connection, run_id: RunId, scope: Scope, terms: GateTerms) -> Findings:
    """Look for what the terms ask for; by an id the step of the gate's own item is meant."""
    rows = {step: scope.row(step) for step in (*terms.artifacts, *terms.checks)}
    files = gates.read_left_files(tx, run_id, {rows[step] for step in terms.artifacts})
    standing = steps.read_facts(tx, run_id, {rows[step] for step in terms.checks})
    states: Mapping[StepKey, StepState] = {step: standing[rows[step]].state for step in terms.checks}
    counted = steps.count_by_state(tx, run_id).every
    tally = {state.value: number for state, number in sorted(counted.items()) if number}
    return find(terms, {step: files.get(rows[step], []) for step in terms.artifacts}, states, tally)


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
