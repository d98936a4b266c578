"""Verify: hold audit events against the key, the heads on the rows, and the seal of each ended run.

Owns the check of runs and that of the installation's own chain, with the tombstones that it vouches for. Signed
checkpoints are verify_checkpoints.py's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from agentflow.domain.chain_check import Finding, FindingCode, Recorded, check_chain
from agentflow.domain.error import RunPruned
from agentflow.domain.event import AuditEvent, seal_of
from agentflow.domain.ids import INSTALLATION_CHAIN, RunId, StepId, StepKey
from agentflow.domain.state import FINAL_RUN_STATES, RunState, StepState
from agentflow.domain.tombstone import Tombstone, batch_root
from agentflow.engine.context import EngineContext
from agentflow.engine.registration import check_audit_key
from agentflow.storage import events, retention, runs, step_heads, steps
from agentflow.storage.retention import missing_run

MOST_COUNTED = 2**53 - 1
"""Where the sums of usage stop."""


@dataclass(frozen=True, slots=True)
class VerificationReport:
    """What the check of one run found; no findings means that its audit holds."""

    run_id: RunId
    events: int
    findings: tuple[Finding, ...]

    @property
    def is_intact(self) -> bool:
        """Whether nothing is wrong."""
        return not self.findings


def verify_run(context: EngineContext, run_id: RunId) -> VerificationReport:
    """Check every chain of a run. NotFound when neither the run nor an event of it is there, RunPruned if it once was.

    ConfigurationError when this process does not have the audit key: nothing could be told from what it would find.
    """
    check_audit_key(context.database, context.audit_key)
    with context.database.transaction() as tx:
        run = runs.lock(tx, run_id, is_shared=True)
        recorded = list(events.read_run(tx, run_id))
        if run is None and not recorded:
            raise missing_run(tx, run_id)
        heads = step_heads.read_all_heads(tx, run_id)
        moves, standing = events.read_moves(tx, run_id), steps.read_states(tx, run_id)
    # To check a large run takes longer than a transaction may rest, and nobody shall wait for it.
    if run is None:
        removed = Finding(FindingCode.RUN_REMOVED, f"{len(recorded)} events speak of a run whose rows were removed")
        return VerificationReport(run_id, len(recorded), (removed,))
    findings = list(_findings(context.audit_key, run, recorded, heads))
    if not findings:  # what cut chains say of states means nothing
        findings = list(_states(run, moves, standing))
    return VerificationReport(run_id, len(recorded), tuple(findings))


def find_audited(context: EngineContext) -> Sequence[RunId]:
    """Find every run that has rows or events."""
    with context.database.transaction() as tx:
        return events.read_all_run_ids(tx)


def verify_all(context: EngineContext) -> Iterator[VerificationReport]:
    """Check every run that has rows or events, one transaction each."""
    for run_id in find_audited(context):
        if (report := verify_known(context, run_id)) is not None:
            yield report


def verify_known(context: EngineContext, run_id: RunId) -> VerificationReport | None:
    """Check a run that was there a moment ago; None where it was pruned since."""
    try:
        return verify_run(context, run_id)
    except RunPruned:
        return None


def verify_installation(context: EngineContext) -> VerificationReport:
    """Check the installation's own chain, and that the tombstones and the folded usage are those that it left."""
    check_audit_key(context.database, context.audit_key)
    with context.database.transaction() as tx:
        events.hold_snapshot(tx)
        chain, tombstones = events.read_own_chain(tx), retention.read_all(tx)
        sums = retention.read_folded(tx)
    if chain is None:
        return VerificationReport(INSTALLATION_CHAIN, 0, ())
    findings = check_chain(chain.recorded, head_sequence=chain.head_sequence, head=chain.head, key=context.audit_key)
    findings += _check_tombstones([event for event, _ in chain.recorded], tombstones)
    if sums.folded != sums.told and max(*sums.folded, *sums.told) < MOST_COUNTED:
        message = "what pruned runs used does not come to what their tombstones say"
        findings.append(Finding(FindingCode.TOMBSTONE_FORGED, message))
    return VerificationReport(INSTALLATION_CHAIN, len(chain.recorded), tuple(findings))


def _check_tombstones(recorded: Sequence[AuditEvent], tombstones: Sequence[Tombstone]) -> Iterator[Finding]:
    """Each batch of tombstones has an event that carries their root; both have the transaction's time."""
    batches: dict[datetime, list[Tombstone]] = defaultdict(list)
    for tombstone in tombstones:
        batches[tombstone.pruned_at].append(tombstone)
    for event in recorded:
        if event.action != "prune":
            continue
        batch = batches.pop(event.at, [])
        if event.facts.get("root") != batch_root(batch):
            runs_told = event.facts.get("runs")
            message = f"the {len(batch)} tombstones of this pruning are not the {runs_told} that it left"
            yield Finding(FindingCode.TOMBSTONE_FORGED, message, None, event.sequence)
    for batch in batches.values():
        named = ", ".join(str(each.run_id) for each in batch[:3]) + (" and others" if len(batch) > 3 else "")
        yield Finding(FindingCode.TOMBSTONE_FORGED, f"no pruning left the tombstones of {named}")


def _findings(
    key: bytes, run: runs.LockedRun, recorded: Sequence[Recorded], heads: Mapping[StepId, step_heads.StepHead]
) -> Iterator[Finding]:
    chains: dict[StepId | None, list[Recorded]] = defaultdict(list)
    for event, mac in recorded:
        chains[event.step_id].append((event, mac))
    own = chains.pop(None, [])
    yield from check_chain(own, head_sequence=run.event_sequence, head=run.event_head, key=key)
    for step_id, head in heads.items():
        chain = chains.pop(step_id, [])
        yield from check_chain(chain, head_sequence=head.sequence, head=head.head, key=key, step=head.key)
    for stranger, chain in chains.items():
        yield Finding(FindingCode.ADDED, f"{len(chain)} events speak of a step {stranger} that the run does not have")
    sealed = {step_id: (head.sequence, head.head or b"") for step_id, head in heads.items() if head.sequence}
    yield from _seal(run, own, sealed)


def _states(
    run: runs.LockedRun, moves: Mapping[str, str], standing: Mapping[StepKey, steps.StandingStep]
) -> Iterator[Finding]:
    """Rows that stand where no event left them: changed behind the back of the audit."""
    told = moves.get("run", RunState.PENDING.value)
    if told != run.state:
        yield Finding(FindingCode.STATE_FORGED, f"the run's row says {run.state}, its events say {told}")
    for key, step in standing.items():
        told = moves.get(f"step:{key}", StepState.PENDING.value)
        if told != step.state:
            yield Finding(FindingCode.STATE_FORGED, f"its row says {step.state}, the events say {told}", key)


def _seal(run: runs.LockedRun, own: list[Recorded], heads: dict[StepId, tuple[int, bytes]]) -> Iterator[Finding]:
    if run.state not in FINAL_RUN_STATES:
        return
    last = own[-1][0] if own else None
    if last is None or last.action != "finalize":
        yield Finding(FindingCode.SEAL_MISSING, f"the run is {run.state}, but its last event does not seal it")
    elif last.facts.get("seal") != seal_of(heads):
        yield Finding(
            FindingCode.SEAL_BROKEN, "the chains of its steps are not those that were sealed", None, last.sequence
        )
