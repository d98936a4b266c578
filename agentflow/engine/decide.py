"""Decide: approve or reject an open gate; the step goes on being held while approvals are missing, else it ends.

Everything is judged under the locks of the run and the step, so of two who decide at once one wins and the other is
told. A rejection fails the step, or sends the run back to an earlier one where the plan says so (engine/redo.py).
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection

from agentflow.domain.beginning import Ends
from agentflow.domain.error import AlreadyDecided, InvalidTransition, NotAllowed, NotFound, UsageError
from agentflow.domain.gate import GateState, Verdict, approved_by, group_of, refusal, values_given
from agentflow.domain.gate_form import completed, fill_in
from agentflow.domain.gate_shape import Gate, GateView
from agentflow.domain.ids import RunId, StepKey, step_id
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.state import StepState
from agentflow.domain.wording import listing
from agentflow.engine import conclude
from agentflow.engine.context import EngineContext
from agentflow.engine.open_gate import awaits
from agentflow.storage import engine_steps, gates, runs, steps


@dataclass(frozen=True, slots=True)
class Answer:
    """What somebody says to a gate; ``given`` are values of its form."""

    actor: str
    verdict: Verdict
    why: str | None = None
    given: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decided:
    """What an answer did. ``state`` is how the gate stands now; ``is_new``: False where the actor had said so before.

    ``approved_by`` are all who approved so far, of ``count`` that must.
    """

    run_id: RunId
    step: StepKey
    state: GateState
    is_new: bool
    approved_by: tuple[str, ...]
    count: int
    ready: tuple[StepKey, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """What was decided, as ``approve --json`` prints it beside the run."""
        return {
            "step": self.step,
            "gate": self.state.value,
            "is_new": self.is_new,
            "approved_by": list(self.approved_by),
            "count": self.count,
            "ready": list(self.ready),
        }


def decide(context: EngineContext, run_id: RunId, step: StepKey | None, answer: Answer) -> Decided:
    """Approve or reject the open gate of a run; ``step`` names it where there are several.

    NotFound for an unknown run or step, NotAllowed for somebody who may not decide it, UsageError for values that do
    not fit the form, AlreadyDecided when somebody was faster, InvalidTransition when no gate is open.
    """
    key = _find(context, run_id, step, answer.verdict)
    deciding = _Deciding(context, answer)
    concluded = conclude.conclude(context, step_id(run_id, key), answer.actor, "decide", deciding)
    if deciding.repeated is not None:
        return deciding.repeated
    if concluded is None or deciding.decided is None:
        raise _too_late(context, run_id, key, answer.verdict)
    return Decided(run_id, key, *deciding.decided, ready=concluded.ready)


def _find(context: EngineContext, run_id: RunId, step: StepKey | None, verdict: Verdict) -> StepKey:
    """The step whose gate is meant: the one that is named, else that of the only open gate, else of the last one."""
    with context.database.transaction() as tx:
        runs.read_owner(tx, run_id)
        if step is not None:
            if steps.find_run_of(tx, step_id(run_id, step)) is None:
                told = f"Run {run_id} has no step {step!r}{_open_ones(tx, run_id, verdict)}"
                raise NotFound(told, run_id=str(run_id), step=step)
            return step
        opened = gates.view(tx, run_id=run_id, is_open=True)
        every = opened or gates.view(tx, run_id=run_id, is_open=False)
        others = "" if opened else _open_ones(tx, run_id, verdict)
    if len(opened) > 1:
        raise UsageError(f"Several gates of run {run_id} are open: name a step, {_listed(opened)}.")
    if others or not every:
        raise InvalidTransition(f"Run {run_id} has no gate that waits for a decision{others}")
    return every[-1].step


def _open_ones(tx: Connection, run_id: RunId, verdict: Verdict) -> str:
    """What an error says of the gates that may have been meant: the run's own, else those of its child runs."""
    opened = gates.view(tx, run_id=run_id, is_open=True, is_tree=True)
    own = [view for view in opened if view.run_id == run_id]
    if own:
        return f"; its open gates: {_listed(own)}"
    why = "" if verdict is Verdict.APPROVE else " --why ..."
    below = [f"`agentflow {verdict} {view.run_id} {shlex.quote(view.step)}{why}`" for view in opened]
    return f"; gates of its child runs wait: {listing(below)}" if below else ""


def _listed(opened: Sequence[GateView]) -> str:
    return listing([view.step for view in opened])


@dataclass(slots=True)
class _Deciding:
    """One answer on its way; it may be judged again when the verb starts over."""

    context: EngineContext
    answer: Answer
    repeated: Decided | None = None
    decided: tuple[GateState, bool, tuple[str, ...], int] | None = None

    def __call__(self, tx: Connection, held: conclude.Held) -> conclude.Verdict | None:
        gate = gates.read(tx, held.step.id)
        if gate is None or gate.state is not GateState.OPEN:
            return None
        if gate.expires_at is not None and gate.expires_at <= held.run.at:
            raise InvalidTransition(
                f"Gate {held.step.key!r}: its time is over since {gate.expires_at.isoformat(timespec='seconds')}; what "
                "follows from that comes within a second of a dispatcher",
                step=held.step.key,
            )
        answer, groups = self.answer, self.context.settings.approver_groups
        submitters = gates.read_submitters(tx, held.run.run_id)
        refused = refusal(gate.terms, gate.approvers, answer.actor, answer.verdict, submitters, groups)
        if refused is not None:
            raise NotAllowed(f"Gate {held.step.key!r}: {refused.message}", reason=refused.code, step=held.step.key)
        if any(said.actor == answer.actor and said.verdict is answer.verdict for said in gate.decisions):
            by = approved_by(gate.decisions)
            self.repeated = Decided(
                held.run.run_id, held.step.key, gate.state, is_new=False, approved_by=by, count=gate.terms.count
            )
            return None
        what = {"gate": gate.kind.value, "round": gate.round, "verdict": answer.verdict.value, "why": answer.why}
        facts = {**what, "as": group_of(gate.approvers, answer.actor, groups)}
        if answer.verdict is Verdict.REJECT:
            return self._reject(tx, held, gate, facts)
        return self._approve(tx, held, gate, facts)

    def _reject(self, tx: Connection, held: conclude.Held, gate: Gate, facts: Mapping[str, Any]) -> conclude.Verdict:
        answer = self.answer
        gates.note_decision(tx, gate.id, answer.actor, Verdict.REJECT, why=answer.why)
        gates.close(tx, gate.id, GateState.REJECTED)
        by = tuple(each for each in approved_by(gate.decisions) if each != answer.actor)
        self.decided = (GateState.REJECTED, True, by, gate.terms.count)
        back = gate.terms.on_reject
        if back is not None and _rounds(tx, held) <= back.max_rounds:
            return conclude.Verdict(None, {**facts, "redo": back.step}, redo=back.step)
        return conclude.Verdict(Ends(StepState.FAILED, Reason(ReasonCode.REJECTED, {"actor": answer.actor})), facts)

    def _approve(self, tx: Connection, held: conclude.Held, gate: Gate, facts: Mapping[str, Any]) -> conclude.Verdict:
        answer, before = self.answer, values_given(gate.decisions)
        values, problems = fill_in(gate.terms.form, answer.given, before)
        by = (*(each for each in approved_by(gate.decisions) if each != answer.actor), answer.actor)
        filled, missing = completed(gate.terms.form, before | values)
        is_last = len(by) >= gate.terms.count
        if is_last and missing:
            problems = (*problems, f"{listing(missing)} must be filled in: add --set NAME=VALUE")
        if problems:
            raise UsageError(f"The form of gate {held.step.key!r}: {'; '.join(problems)}.", step=held.step.key)
        gates.note_decision(tx, gate.id, answer.actor, Verdict.APPROVE, why=answer.why, given=values)
        told = {**facts, "given": len(by), "count": gate.terms.count, "set": sorted(values)}
        if not is_last:
            engine_steps.tell_held(tx, held.step.id, awaits(gate.terms, len(by), gate.expires_at), gate.expires_at)
            self.decided = (GateState.OPEN, True, by, gate.terms.count)
            return conclude.Verdict(None, told)
        self.decided = (GateState.APPROVED, True, by, gate.terms.count)
        return conclude.Verdict(approve(tx, held, gate, by, filled), told)


def _rounds(tx: Connection, held: conclude.Held) -> int:
    """How often the gate opened in this round of its run."""
    return gates.count(tx, [held.step.id], held.run.round)[held.step.id].in_round


def approve(tx: Connection, held: conclude.Held, gate: Gate, by: tuple[str, ...], filled: Mapping[str, Any]) -> Ends:
    """Close a gate as approved: its form's values become vars of the run. Returns how its step ends."""
    gates.close(tx, gate.id, GateState.APPROVED)
    gates.set_vars(tx, held.run.run_id, filled)
    return Ends(StepState.SUCCEEDED, result={"approved_by": list(by), "form": dict(filled)})


def _too_late(context: EngineContext, run_id: RunId, key: StepKey, verdict: Verdict) -> Exception:
    """Say why a gate cannot be decided: it was, or there is none."""
    with context.database.transaction() as tx:
        gate = gates.read(tx, step_id(run_id, key))
        standing = steps.read_states(tx, run_id).get(key)
        opened = _open_ones(tx, run_id, verdict)
    if gate is None:
        state = standing.state if standing else "unknown"
        return InvalidTransition(f"Step {key!r} of run {run_id} ({state}) waits for no decision{opened}", step=key)
    return too_late(run_id, key, gate)


def too_late(run_id: RunId, key: StepKey, gate: Gate) -> AlreadyDecided:
    """Say who decided a gate, how and when."""
    wanted = Verdict.REJECT if gate.state is GateState.REJECTED else Verdict.APPROVE
    last = [said for said in gate.decisions if said.verdict is wanted][-1:]
    decided_by = last[0].actor if last else None
    at = "" if gate.decided_at is None else f" at {gate.decided_at.isoformat(timespec='seconds')}"
    by = f" by {decided_by}" if decided_by and gate.state in (GateState.APPROVED, GateState.REJECTED) else ""
    was = "expired" if gate.state is GateState.EXPIRED else f"was {gate.state.value}"
    if gate.state is GateState.APPROVED and not decided_by:
        by = " by its own terms"
    return AlreadyDecided(
        f"Gate {key!r} of run {run_id} {was}{by}{at}; nothing was changed",
        run_id=str(run_id),
        step=key,
        state=gate.state.value,
        decided_by=decided_by,
        decided_at=None if gate.decided_at is None else gate.decided_at.isoformat(),
    )
