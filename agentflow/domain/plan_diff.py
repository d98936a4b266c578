"""What two plans differ in: steps that were added, removed or changed, by the names that an author writes.

Pure. Names only: what a field says stands in the plans.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from agentflow.domain.action import Action
from agentflow.domain.ids import StepKey
from agentflow.domain.plan import Plan, Step

_AS_WRITTEN = {"timeout_seconds": "timeout", "body": "json"}
_NOT_WRITTEN = {"is_answer_needed"}
_OF_THE_PLAN = ("name", "project", "directive", "budget", "files", "vars", "secrets")


@dataclass(frozen=True, slots=True)
class PlanDiff:
    """``fields`` are those of the plan itself, ``changed`` those of each step that both have."""

    fields: tuple[str, ...] = ()
    added: tuple[StepKey, ...] = ()
    removed: tuple[StepKey, ...] = ()
    changed: Mapping[StepKey, tuple[str, ...]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The difference as it stands in that of two runs."""
        return {
            "fields": list(self.fields),
            "added": list(self.added),
            "removed": list(self.removed),
            "changed": {key: list(names) for key, names in self.changed.items()},
        }


def diff_plans(old: Plan, new: Plan) -> PlanDiff:
    """Return what differs, in the order of the new plan and then of the old one."""
    before = {step.id: step for step in old.every_step}
    now = {step.id: step for step in new.every_step}
    changed = {key: _step_fields(before[key], step) for key, step in now.items() if key in before}
    return PlanDiff(
        fields=tuple(name for name in _OF_THE_PLAN if getattr(old, name) != getattr(new, name)),
        added=tuple(key for key in now if key not in before),
        removed=tuple(key for key in before if key not in now),
        changed={key: names for key, names in changed.items() if names},
    )


def _step_fields(old: Step, new: Step) -> tuple[str, ...]:
    old, new = _without_body(old), _without_body(new)
    names = [name for name in Step.model_fields if name != "action" and getattr(old, name) != getattr(new, name)]
    return tuple([_AS_WRITTEN.get(name, name) for name in names] + _action_fields(old.action, new.action))


def _without_body(step: Step) -> Step:
    """A foreach is what it goes through: the steps of its body stand for themselves."""
    if step.foreach is None:
        return step
    return step.model_copy(update={"foreach": step.foreach.model_copy(update={"steps": ()})})


def _action_fields(old: Action, new: Action) -> list[str]:
    if old.type != new.type:
        return ["action"]
    fields = type(new).model_fields
    names = [name for name in fields if name not in _NOT_WRITTEN and getattr(old, name) != getattr(new, name)]
    return [f"{new.type}.{_AS_WRITTEN.get(name, name)}" for name in names]
