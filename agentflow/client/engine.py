"""Engine: runs a workflow directory, as the founding engine did, by real runs of the plan that it compiles to.

Owns what a run of a workflow answers with; what it means is domain/workflow_history's. Everything goes through a flow.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Self

from agentflow.client.flow import AgentFlow
from agentflow.client.run import Run
from agentflow.domain.error import UsageError
from agentflow.domain.ids import StepKey
from agentflow.domain.state import ShownRunState
from agentflow.domain.workflow_history import EndedStep, History
from agentflow.domain.workflow_value import INPUT, Output
from agentflow.engine.load_plan import LoadedPlan
from agentflow.engine.load_workflow import LoadedWorkflow, Manifests, compile_manifests, read_manifests
from agentflow.executors.base import known_actions
from agentflow.settings import Settings
from agentflow.storage.view_shapes import StepView

_IN_PROGRESS = "in_progress"
_STATUS: Mapping[ShownRunState, str] = {
    ShownRunState.COMPLETED: "completed",
    ShownRunState.PARTIAL: "partial",
    ShownRunState.FAILED: "failed",
    ShownRunState.CANCELLED: "cancelled",
}


class Engine:
    """A workflow that was read and judged; each ``run`` is a run of its plan, done by workers like any other."""

    def __init__(self, manifests: Manifests, flow: AgentFlow) -> None:
        self._manifests, self._flow = manifests, flow
        self._loaded: dict[str | None, LoadedWorkflow] = {}
        self._from(None)

    @classmethod
    def from_config_dir(
        cls, path: str | Path, *, flow: AgentFlow | None = None, settings: Settings | None = None
    ) -> Self:
        """Read the workflow in a directory. Without a ``flow`` one is made, of ``settings`` or of the environment.

        Raises ManifestLoadError, SchemaValidationError, DAGValidationError, PlanRejected and NotFound.
        """
        return cls(read_manifests(path), flow or AgentFlow(settings))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections of its flow; they are made again at the next use."""
        self._flow.close()

    @property
    def plan(self) -> LoadedPlan:
        """The plan of a run from the default start."""
        return self._from(None).plan

    def run(self, input: Any, start: str | None = None, *, timeout: float | None = None) -> dict[str, Any]:  # noqa: A002 - the founding engine's own name
        """Run the workflow on any JSON value, from the default start or a named one, and wait for the end.

        Returns {task_id, status, output, history, node_sequence, execution_time_ms}. UsageError for an input that is no
        JSON, NotFound for what is no start node, WaitTimeout, and what a submit raises.
        """
        loaded = self._from(start)
        run = self._flow.submit(loaded.plan, {INPUT: _checked(input)})
        return self._answer(loaded, run.wait(timeout), input)

    def _from(self, start: str | None) -> LoadedWorkflow:
        if start not in self._loaded:
            self._loaded[start] = compile_manifests(self._manifests, start, available_actions=known_actions())
        return self._loaded[start]

    def _answer(self, loaded: LoadedWorkflow, run: Run, request: Any) -> dict[str, Any]:
        task_id = f"task-{loaded.plan.plan.name}-{run.uuid.hex[:8]}"
        steps = {StepKey(key): _ended(number, step) for number, (key, step) in enumerate(run.steps.items())}

        history = History(loaded.compiled, loaded.plan.plan, task_id, request, steps, partial(_read, run))
        records = history.records()
        return {
            "task_id": task_id,
            "status": _STATUS.get(run.state, _IN_PROGRESS),
            "output": history.output(),
            "history": records,
            "node_sequence": [record["node_id"] for record in records],
            "execution_time_ms": round(run.usage.active_seconds * 1000),
        }


def _checked(value: Any) -> Any:
    try:
        return json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"The input cannot be written as JSON ({type(error).__name__}).") from None


def _ended(position: int, step: StepView) -> EndedStep:
    last = step.attempts[-1] if step.attempts else None
    return EndedStep(
        step.state,
        position,
        step.reason,
        step.choice,
        last.started_at if last else None,
        last.ended_at if last else None,
    )


def _read(run: Run, key: StepKey, output: Output) -> Any:
    """What a step put out, from its files; None where nobody chose to keep them."""
    step = run.steps[key]
    if step.action not in ("llm", "subprocess"):
        return step.result
    name = "stdout" if step.action == "subprocess" else "text"
    if not any(artifact.name == name for artifact in step.artifacts):
        return None
    text = run.read_artifact(name, step.id).decode("utf-8", errors="replace").removesuffix("\n")
    return json.loads(text) if output.is_json or output.what == "result" else text
