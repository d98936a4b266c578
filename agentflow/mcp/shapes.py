"""What the tools answer with: small, typed, and complete enough to act on."""

from __future__ import annotations

from collections import Counter

from pydantic import BaseModel

from agentflow.client import Run, RunSummary, StepView
from agentflow.domain.gate_shape import GateView
from agentflow.domain.reason import sentence_of
from agentflow.domain.state import StepState
from agentflow.storage.view_shapes import moment


class RunLine(BaseModel):
    """A run in a list. Times are ISO 8601 in UTC."""

    id: str
    state: str
    plan: str
    project: str
    created_at: str | None
    ended_at: str | None
    reason: str | None

    @classmethod
    def of(cls, run: RunSummary) -> RunLine:
        """Tell a run as a list shows it."""
        return cls(
            id=str(run.id),
            state=run.state.value,
            plan=run.plan_name,
            project=run.project,
            created_at=moment(run.created_at),
            ended_at=moment(run.ended_at),
            reason=sentence_of(run.reason) if run.reason else None,
        )


class OpenGate(BaseModel):
    """A gate that waits for a decision; ``run`` may be a child run."""

    run: str
    step: str
    message: str
    approvers: list[str]

    @classmethod
    def of(cls, gate: GateView) -> OpenGate:
        """Tell a gate."""
        told = gate.as_json()
        return cls(run=told["run"], step=told["step"], message=told["message"] or "", approvers=told["approvers"])


class RunStatus(BaseModel):
    """How a run stands. ``steps`` counts them by state; ``failed`` names those that failed, each with why."""

    run: RunLine
    percent: int
    steps: dict[str, int]
    failed: dict[str, str]
    gates: list[OpenGate]

    @classmethod
    def of(cls, run: Run) -> RunStatus:
        """Tell how a run stands."""
        view = run.view
        steps = view.steps.values()
        return cls(
            run=RunLine.of(view.summary),
            percent=view.progress.percent,
            steps=dict(Counter(step.state.value for step in steps)),
            failed={str(step.id): _why(step) for step in steps if step.state is StepState.FAILED},
            gates=[OpenGate.of(gate) for gate in view.gates if gate.gate.decided_at is None],
        )


def _why(step: StepView) -> str:
    return sentence_of(step.reason) if step.reason else "failed"
