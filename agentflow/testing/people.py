"""The people of a rehearsal and its time: who approves or rejects which gate, and how much time passes, in this order.

Owns the order of these acts. A decision stands until its gate opens; those written after an ``advance`` come after it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from agentflow.client import AgentFlow
from agentflow.client.run import Run
from agentflow.domain.child import plan_id
from agentflow.domain.gate_shape import GateView
from agentflow.domain.ids import StepKey
from agentflow.testing.forcing import check_steps

APPROVER = "approver@rehearsal"


@dataclass(slots=True)
class Decision:
    """What people say to the next gate of a step; each of ``by`` says it."""

    step: str
    is_approval: bool
    by: Sequence[str]
    why: str | None = None
    form: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Advance:
    """So much time passes while the run rests."""

    seconds: float


class People:
    """What people will do, and how much time will pass, in the order in which the test said it."""

    def __init__(self) -> None:
        self._acts: list[Decision | Advance] = []

    def add(self, act: Decision | Advance) -> None:
        """Say one more act."""
        self._acts.append(act)

    def check(self, known: Collection[str]) -> None:
        """Raise RehearsalError for a step that no plan of the run has."""
        for verb, is_approval in (("approves", True), ("rejects", False)):
            steps = [act.step for act in self._acts if isinstance(act, Decision) and act.is_approval is is_approval]
            check_steps(verb, steps, known)

    def decide(self, flow: AgentFlow, run: Run) -> bool:
        """Decide one open gate, as the first decision says that fits and stands before any advance; whether one was."""
        waiting = [act for act in self._upcoming() if isinstance(act, Decision)]
        gates = flow.gates(run) if waiting else ()
        for act in waiting:
            for gate in gates:
                if act.step in (gate.step, plan_id(gate.step)):
                    self._acts.remove(act)
                    _decide(flow, gate, act)
                    return True
        return False

    def take_time(self) -> float:
        """Take the next advance, past decisions whose gate did not open; zero when there is none."""
        for act in self._acts:
            if isinstance(act, Advance):
                self._acts.remove(act)
                return act.seconds
        return 0.0

    def put_back_time(self, seconds: float) -> None:
        """Say what is left of an advance, before everything else."""
        self._acts.insert(0, Advance(seconds))

    def _upcoming(self) -> list[Decision | Advance]:
        ends = [at for at, act in enumerate(self._acts) if isinstance(act, Advance)]
        return self._acts[: ends[0]] if ends else list(self._acts)


def _decide(flow: AgentFlow, gate: GateView, act: Decision) -> None:
    for actor in act.by or _able(flow, gate):
        acting = flow.acting_as(actor)
        step = StepKey(gate.step)
        if act.is_approval:
            acting.approve(gate.run_id, step, why=act.why, form=act.form or None)
        else:
            acting.reject(gate.run_id, step, why=act.why)


def _able(flow: AgentFlow, gate: GateView) -> list[str]:
    """Somebody who may decide, where the test names nobody: one whom the gate names, else anybody."""
    groups = flow.settings.approver_groups
    named = [name for entry in gate.gate.approvers for name in groups.get(entry.removeprefix("@"), (entry,))]
    able = [name for name in (*named, APPROVER) if gate.is_for(name, groups)]
    return able[: max(1, gate.gate.terms.count)] or [APPROVER]
