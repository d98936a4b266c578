"""What two runs differ in: their plans, vars and usage, and step by step how they ended and what they left.

Owns the comparison and its JSON. Results are compared by value, files by their SHA-256: no content is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.plan_diff import PlanDiff, diff_plans
from agentflow.storage import plans, runs
from agentflow.storage.view_shapes import RunView, StepView
from agentflow.storage.whole_run import read_run

DIFF_SCHEMA = "agentflow.diff/1"


@dataclass(frozen=True, slots=True)
class ArtifactsDiff:
    """The names of files that both left alike, both left otherwise, or one of the two."""

    same: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class StepDiff:
    """A step in both runs; None where a run has no such step. ``fields`` are those of its plan that changed."""

    id: StepKey
    old: StepView | None
    new: StepView | None
    fields: tuple[str, ...]
    artifacts: ArtifactsDiff

    @property
    def has_same_result(self) -> bool:
        """Whether both runs give the step the same result."""
        return (self.old and self.old.result) == (self.new and self.new.result)

    @property
    def is_same(self) -> bool:
        """Whether the step means and came to the same in both; how long it took and how often it was tried aside."""
        if self.old is None or self.new is None:
            return False
        left = self.artifacts
        is_alike = self.old.state is self.new.state and exit_code(self.old) == exit_code(self.new)
        return is_alike and self.has_same_result and not (self.fields or left.changed or left.added or left.removed)

    def as_json(self) -> dict[str, Any]:
        """The step as ``show --diff --json`` prints it."""
        left = self.artifacts
        return {
            "id": self.id,
            "same": self.is_same,
            "fields": list(self.fields),
            "old": _side(self.old),
            "new": _side(self.new),
            "same_result": self.has_same_result,
            "artifacts": {name: list(getattr(left, name)) for name in ("same", "changed", "added", "removed")},
        }


@dataclass(frozen=True, slots=True)
class RunDiff:
    """Two runs side by side. ``vars`` holds those that differ, ``{"old": ..., "new": ...}``, each where it was set."""

    old: RunView
    new: RunView
    plan: PlanDiff
    vars: Mapping[str, Mapping[str, Any]]
    steps: tuple[StepDiff, ...]

    def as_json(self) -> dict[str, Any]:
        """The difference as ``show --diff --json`` prints it."""
        same_plan = self.old.summary.plan_fingerprint == self.new.summary.plan_fingerprint
        return {
            "schema": DIFF_SCHEMA,
            "old": _head(self.old),
            "new": _head(self.new),
            "plan": {"same": same_plan, **self.plan.as_json()},
            "vars": {name: dict(values) for name, values in self.vars.items()},
            "steps": [step.as_json() for step in self.steps],
        }


def read_diff(tx: Connection, old_id: RunId, new_id: RunId) -> RunDiff:
    """Read two runs and compare them. NotFound when one is not there."""
    old, new = read_run(tx, old_id), read_run(tx, new_id)
    before, now = (plans.read(tx, view.summary.plan_fingerprint) for view in (old, new))
    plan = diff_plans(before, now)
    keys = [*new.steps, *(key for key in old.steps if key not in new.steps)]
    steps = tuple(_step(StepKey(key), old.steps.get(key), new.steps.get(key), plan) for key in keys)
    return RunDiff(old, new, plan, _vars(runs.read_vars(tx, old_id), runs.read_vars(tx, new_id)), steps)


def exit_code(step: StepView) -> int | None:
    """How the last attempt of a step exited, if it was a command."""
    return step.attempts[-1].exit_code if step.attempts else None


def seconds(step: StepView) -> float:
    """How long the attempts of a step took together."""
    return round(sum(attempt.duration_seconds or 0.0 for attempt in step.attempts), 6)


def is_reused(step: StepView) -> bool:
    """Whether a run took a step over from another instead of running it."""
    return bool(step.attempts) and step.attempts[-1].is_reused


def _step(key: StepKey, old: StepView | None, new: StepView | None, plan: PlanDiff) -> StepDiff:
    return StepDiff(key, old, new, plan.changed.get(key, ()), _artifacts(_files(old), _files(new)))


def _files(step: StepView | None) -> dict[str, str]:
    return {artifact.name: artifact.sha256 for artifact in step.artifacts} if step else {}


def _artifacts(old: Mapping[str, str], new: Mapping[str, str]) -> ArtifactsDiff:
    both = [name for name in new if name in old]
    return ArtifactsDiff(
        same=tuple(name for name in both if old[name] == new[name]),
        changed=tuple(name for name in both if old[name] != new[name]),
        added=tuple(name for name in new if name not in old),
        removed=tuple(name for name in old if name not in new),
    )


def _vars(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    sides = {"old": old, "new": new}
    found = {name: {side: values[name] for side, values in sides.items() if name in values} for name in [*new, *old]}
    return {name: values for name, values in found.items() if len(values) == 1 or _differ(values)}


def _differ(values: Mapping[str, Any]) -> bool:
    return type(values["old"]) is not type(values["new"]) or values["old"] != values["new"]  # True is no 1


def _head(view: RunView) -> dict[str, Any]:
    return view.summary.as_json() | {"usage": view.usage.as_json()}


def _side(step: StepView | None) -> dict[str, Any] | None:
    if step is None:
        return None
    calls = [attempt.call for attempt in step.attempts if attempt.call]
    return {
        "state": step.state.value,
        "reason": step.reason,
        "reused": is_reused(step),
        "attempts": len(step.attempts),
        "duration_seconds": seconds(step),
        "exit_code": exit_code(step),
        "result": step.result,
        "calls": len(calls),
        "tokens": sum(call.input_tokens + call.output_tokens for call in calls),
        "usd": round(sum(call.usd or 0.0 for call in calls), 9),
    }
