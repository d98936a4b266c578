"""How a run reads in the founding runtime's shapes: its names of states, its fields, its report."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from agentflow.domain.budget import BudgetKind
from agentflow.domain.gate import GateState
from agentflow.domain.reason import sentence_of
from agentflow.domain.state import FINAL_STEP_STATES, ShownRunState, StepState
from agentflow.storage.agent_runs import AgentFacts
from agentflow.storage.view_shapes import RunSummary, RunView, StepView, moment

GOAL_LISTED = 100
_ENDED: Mapping[ShownRunState, str] = {
    ShownRunState.COMPLETED: "completed",
    ShownRunState.PARTIAL: "failed",
    ShownRunState.FAILED: "failed",
    ShownRunState.CANCELLING: "cancelled",
    ShownRunState.CANCELLED: "cancelled",
}
_STEPS: Mapping[StepState, str] = {
    StepState.RUNNING: "running",
    StepState.RETRYING: "running",
    StepState.SUCCEEDED: "success",
    StepState.FAILED: "failed",
    StepState.SKIPPED: "skipped",
    StepState.CANCELLED: "skipped",
}
_TYPES: Mapping[str, str] = {"decision": "decision", "approval": "decision", "wait": "wait", "notify": "notify"}
_SIGNS: Mapping[str, str] = {"success": "✓", "failed": "✗", "skipped": "-"}
_MINUTE = 60.0


class AgentRow:
    """A run as the list of agent runs has it."""

    def __init__(self, summary: RunSummary, facts: AgentFacts) -> None:
        self._summary = summary
        self._facts = facts
        self._goal = "" if facts.goal is None else str(facts.goal)
        self.id = str(summary.id)

    @property
    def status(self) -> str:
        """The state in the founding words; what rests over a budget is timeout or expired."""
        summary = self._summary
        if summary.state in _ENDED:
            return _ENDED[summary.state]
        if summary.state is ShownRunState.EXHAUSTED:
            kind = ((summary.reason or {}).get("detail") or {}).get("budget")
            return "timeout" if kind == BudgetKind.ACTIVE_TIME else "expired"
        if self._facts.has_open_gate:
            return "pending_approval"
        return "running" if self._facts.has_begun else "pending"

    def row(self) -> dict[str, Any]:
        """The run as the list has it."""
        summary = self._summary
        return {
            "id": self.id,
            "operator_goal": self._goal[:GOAL_LISTED],
            "status": self.status,
            "current_step": self._facts.finished,
            "tokens_used": self._facts.tokens,
            "token_budget": self._facts.token_cap,
            "created_at": moment(summary.created_at),
            "started_at": moment(summary.started_at),
            "ended_at": moment(summary.ended_at),
        }


class AgentRun(AgentRow):
    """A run with everything of it, read as an agent run; ``goal`` is the value of its var of that name."""

    def __init__(self, view: RunView, goal: object) -> None:
        steps = view.steps.values()
        facts = AgentFacts(
            goal,
            finished=sum(step.state in FINAL_STEP_STATES for step in steps),
            has_begun=any(step.attempts for step in steps),
            has_open_gate=any(gate.gate.state is GateState.OPEN for gate in view.gates),
            tokens=(view.tree or view.usage).tokens,
            token_cap=next((line.limit for line in view.budget if line.budget is BudgetKind.TOKENS), None),
        )
        super().__init__(view.summary, facts)
        self._view = view

    def standing(self) -> dict[str, Any]:
        """How far the run has come."""
        minutes, cap = self._minutes, self._time_budget
        return {
            "agent_run_id": self.id,
            "status": self.status,
            "current_step": self._facts.finished,
            "max_steps": self._cap(BudgetKind.STEPS),
            "tokens_used": self._facts.tokens,
            "token_budget": self._facts.token_cap,
            "time_elapsed_minutes": minutes,
            "is_expired": cap is not None and minutes > cap,
        }

    def full(self) -> dict[str, Any]:
        """The whole run; its report is asked for apart."""
        summary = self._summary
        directive = {"name": summary.plan_name, "version": summary.plan_fingerprint}
        more = {
            "operator_goal": self._goal,
            "directive_snapshot": directive,
            "max_steps": self._cap(BudgetKind.STEPS),
            "time_budget_minutes": self._time_budget,
            "error_message": self._error,
            "steps": [_step(number, step) for number, step in enumerate(self._view.steps.values())],
        }
        return self.row() | more

    def plan(self) -> list[dict[str, Any]]:
        """The steps that are to be done."""
        return [
            {"step_index": number, "step_type": _type(step), "task_id": step.id, "inputs": {"action": step.action}}
            for number, step in enumerate(self._view.steps.values())
        ]

    def summary(self) -> dict[str, Any]:
        """What came of the run."""
        steps = [_step(number, step) for number, step in enumerate(self._view.steps.values())]
        states = [step["status"] for step in steps]
        named = {"step_index": "step_index", "task_id": "task_id", "status": "status"}
        named |= {"duration_seconds": "duration_seconds", "error": "error_message"}
        return {
            "agent_run_id": self.id,
            "operator_goal": self._goal,
            "status": self.status,
            "total_steps": len(steps),
            "successful_steps": states.count("success"),
            "failed_steps": states.count("failed"),
            "tokens_used": self._facts.tokens,
            "token_budget": self._facts.token_cap,
            "time_elapsed_minutes": self._minutes,
            "steps": [{name: step[field] for name, field in named.items()} for step in steps],
            "error_message": self._error,
        }

    def markdown(self) -> str:
        """The report as a text."""
        told = self.summary()
        lines = [
            f"# Agent Run Report {self.id}",
            f"**Goal**: {' '.join(self._goal.split())}",
            f"**Status**: {told['status']}",
            f"**Duration**: {told['time_elapsed_minutes']:.1f} minutes",
            f"**Tokens used**: {told['tokens_used']} / {told['token_budget']}",
            "## Steps",
        ]
        for step in told["steps"]:
            sign, seconds = _SIGNS.get(step["status"], "…"), step["duration_seconds"] or 0.0
            lines.append(f"- {sign} {step['step_index']}. {step['task_id']} ({seconds:.1f} s)")
        errors = [f"- {step['task_id']}: {step['error']}" for step in told["steps"] if step["error"]]
        lines += ["## Errors", *errors] if errors else []
        return "\n\n".join(lines) + "\n"

    @property
    def _minutes(self) -> float:
        summary = self._summary
        if summary.started_at is None:
            return 0.0
        return round(((summary.ended_at or summary.read_at) - summary.started_at).total_seconds() / _MINUTE, 3)

    @property
    def _time_budget(self) -> float | None:
        seconds = self._cap(BudgetKind.ACTIVE_TIME)
        return None if seconds is None else seconds / _MINUTE

    @property
    def _error(self) -> str:
        reason = self._summary.reason
        return sentence_of(reason) if reason and self.status in ("failed", "timeout", "expired") else ""

    def _cap(self, kind: BudgetKind) -> float | None:
        return next((line.limit for line in self._view.budget if line.budget is kind), None)


def _type(step: StepView) -> str:
    return _TYPES.get(step.action, "task_call")


def _step(number: int, step: StepView) -> dict[str, Any]:
    began = step.attempts[0].started_at if step.attempts else None
    ended = step.attempts[-1].ended_at if step.attempts else None
    has_failed = step.state is StepState.FAILED and step.reason is not None
    return {
        "step_index": number,
        "step_type": _type(step),
        "task_id": step.id,
        "status": _STEPS.get(step.state, "pending"),
        "task_run_id": f"{step.id}/{step.attempts[-1].number}" if step.attempts else None,
        "started_at": moment(began),
        "ended_at": moment(ended),
        "duration_seconds": (ended - began).total_seconds() if began and ended else None,
        "error_message": sentence_of(step.reason) if has_failed and step.reason else "",
    }
