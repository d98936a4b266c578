"""Execution modes: how far a run goes before a person has said yes.

Owns the modes, and the gate that a strict run begins with: a plan is turned into one that does nothing before it. The
same plan always gives the same gated one. What a dry run tells stands in forecast.py.
"""

from __future__ import annotations

from enum import StrEnum

from agentflow.domain.action import ApprovalAction
from agentflow.domain.fault import Fault
from agentflow.domain.gate import GateTerms
from agentflow.domain.ids import StepKey
from agentflow.domain.plan import MAX_STEPS, Plan, Step

APPROVE_EXECUTION = StepKey("approve-execution")
"""The gate of a strict run; no step of a plan that runs strictly may have its id."""


class Mode(StrEnum):
    """``strict`` starts nothing before a person's yes, ``auto`` goes on by itself, ``dry-run`` only tells."""

    STRICT = "strict"
    AUTO = "auto"
    DRY_RUN = "dry-run"

    @classmethod
    def _missing_(cls, value: object) -> Mode | None:
        return cls.DRY_RUN if value == "dry_run" else None  # its name in the contracts of the founding systems


def gate_faults(plan: Plan) -> tuple[Fault, ...]:
    """Return why a plan cannot be given the gate of a strict run."""
    faults = [
        Fault(
            "reserved_id",
            f"{APPROVE_EXECUTION} is the id of the gate that a strict run begins with: give the step another",
            ("steps", position, "id"),
            step.id,
        )
        for position, step in enumerate(plan.steps)
        if step.id == APPROVE_EXECUTION
    ]
    if len(plan.steps) >= MAX_STEPS:
        faults.append(
            Fault("too_many_steps", f"a strict run has a gate more; {MAX_STEPS} steps are the most", ("steps",))
        )
    return tuple(faults)


def start_gate(plan: Plan) -> GateTerms | None:
    """Return the terms of the gate that a strict run of ``plan`` begins with; None where it has none yet."""
    first, *others = plan.steps
    if first.id == APPROVE_EXECUTION and isinstance(first.action, ApprovalAction) and all(one.needs for one in others):
        return first.action.gate
    return None


def gated(plan: Plan, *, allows_self: bool) -> Plan:
    """Return the plan with a gate that all its first steps wait for; ``allows_self``: who submits may approve it."""
    count = "1 step" if len(plan.steps) == 1 else f"{len(plan.steps)} steps"
    terms = GateTerms(message=f"Start {plan.name}, {count}?", allows_self=allows_self)
    gate = Step(id=APPROVE_EXECUTION, action=ApprovalAction(gate=terms))
    steps = (step if step.needs else step.model_copy(update={"needs": (gate.id,)}) for step in plan.steps)
    fields = {name: getattr(plan, name) for name in Plan.model_fields}
    return Plan(**fields | {"steps": (gate, *steps)})  # no copy: that would keep the old fingerprint
