"""Open gates: write down what a step asks people for as it begins, or what it decides itself.

Inside a verb's transaction. A gate's row holds the terms as they are now and what was found: counts, names and hashes
of files, how checks ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from sqlalchemy import Connection

from agentflow.domain.beginning import Beginning, Ends, Holds
from agentflow.domain.gate import GATE_ACTOR, GateState, GateTerms, Verdict
from agentflow.domain.gate_finding import Findings, find, own_verdict
from agentflow.domain.ids import StepId
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.state import StepState
from agentflow.engine.context import PlanView
from agentflow.engine.gather import Scope
from agentflow.engine.record import Moves
from agentflow.storage import gates, runs, steps

Opening = tuple[steps.Successor, GateTerms]


def with_gates(
    tx: Connection,
    plan: PlanView,
    run: runs.LockedRun,
    begun: Sequence[tuple[steps.Successor, Beginning]],
    moves: Moves,
) -> list[tuple[steps.Successor, Beginning]]:
    """Open the gates of the steps that begin with one; what a gate decides itself ends its step at once."""
    opening = [(step, how.gate) for step, how in begun if isinstance(how, Holds) and how.gate is not None]
    if not opening:
        return list(begun)
    found = _find(tx, plan, run, opening)
    before = gates.count(tx, [step.id for step, _ in opening], run.round)
    opened = {step.id: _gate(run, step, terms, before[step.id], found[step.id]) for step, terms in opening}
    gates.insert(tx, run.run_id, list(opened.values()))
    verdicts = {step.id: own_verdict(terms, found[step.id]) for step, terms in opening}
    gates.note_verdicts(tx, GATE_ACTOR, {opened[step].id: said for step, said in verdicts.items() if said is not None})
    for step, _ in opening:
        gate = opened[step.id]
        told = {"kind": gate.terms.kind.value, "round": gate.round, "state": gate.state.value}
        moves.note("opened", step.key, told)
    return [
        (step, _begun(opened[step.id], found[step.id], verdicts[step.id]) if step.id in opened else how)
        for step, how in begun
    ]


def _gate(
    run: runs.LockedRun, step: steps.Successor, terms: GateTerms, before: gates.GateCounts, findings: Findings
) -> gates.NewGate:
    verdict = own_verdict(terms, findings)
    state = {None: GateState.OPEN, Verdict.APPROVE: GateState.APPROVED, Verdict.REJECT: GateState.REJECTED}[verdict]
    is_expiring = verdict is None and terms.expires_seconds is not None
    expires_at = run.at + timedelta(seconds=terms.expires_seconds or 0) if is_expiring else None
    facts = {**findings.as_json(), "run_round": run.round}
    return gates.NewGate(uuid4(), step.id, state, before.every + 1, terms, facts, expires_at)


def _begun(gate: gates.NewGate, findings: Findings, verdict: Verdict | None) -> Beginning:
    if verdict is None:
        return Holds(awaits(gate.terms, 0, gate.expires_at), due_at=gate.expires_at)
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


def _find(tx: Connection, plan: PlanView, run: runs.LockedRun, opening: Sequence[Opening]) -> dict[StepId, Findings]:
    """Look for what the terms ask for, for all gates together; by an id the step of a gate's own item is meant."""
    scopes = {step.id: Scope(plan.plan, step.key) for step, _ in opening}
    leavers = {scopes[step.id].row(each) for step, terms in opening for each in terms.artifacts}
    checks = {scopes[step.id].row(each) for step, terms in opening for each in terms.checks}
    files = gates.read_left_files(tx, run.run_id, leavers)
    states = {key: facts.state for key, facts in steps.read_facts(tx, run.run_id, checks).items()}
    counted = steps.count_by_state(tx, run.run_id).every
    tally = {state.value: number for state, number in sorted(counted.items()) if number}
    found = {}
    for step, terms in opening:
        row = scopes[step.id].row
        left = {each: files.get(row(each), []) for each in terms.artifacts}
        found[step.id] = find(terms, left, {each: states[row(each)] for each in terms.checks}, tally)
    return found


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
