"""What a run of a workflow came to, told by its nodes: the history, the tasks with their lineage, output and status.

Pure: how the steps ended and what they put out are handed in. Task ids follow from the route alone: a clone is called
``{parent}-clone-{n}`` after the position of its edge, a subtask ``{parent}-subtask-{n}`` after that of its input.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from agentflow.domain.child import loops, plan_id, resolve
from agentflow.domain.ids import StepKey
from agentflow.domain.plan import Plan
from agentflow.domain.state import StepState
from agentflow.domain.transition import UNTAKEN
from agentflow.domain.workflow import Role
from agentflow.domain.workflow_compile import Compiled
from agentflow.domain.workflow_route import Frame
from agentflow.domain.workflow_value import Item, Labelled, Output, Part, Parts, Request, Slice, Source, Unless

STATUS: Mapping[StepState, str] = {
    StepState.SUCCEEDED: "completed",
    StepState.FAILED: "failed",
    StepState.CANCELLED: "cancelled",
}
"""What the founding engine calls the end of a node."""


@dataclass(frozen=True, slots=True)
class EndedStep:
    """How a step of the run stands."""

    state: StepState
    position: int
    reason: Mapping[str, Any] | None = None
    choice: str | None = None
    started_at: datetime | None = None
    ended_at: datetime | None = None

    @property
    def is_untaken(self) -> bool:
        """Whether the route did not lead to it."""
        return self.state is StepState.SKIPPED and (self.reason or {}).get("code") in UNTAKEN


Read = Callable[[StepKey, Output], Any]
"""Reads what a step that succeeded put out: its text, its stdout or its result."""


class History:
    """A run of a workflow as far as it has come."""

    def __init__(
        self, compiled: Compiled, plan: Plan, task_id: str, request: Any, steps: Mapping[StepKey, EndedStep], read: Read
    ) -> None:
        self._compiled, self._plan, self._steps, self._read = compiled, plan, steps, read
        self._root, self._request = task_id, request
        self._places = {node: place for place, node in enumerate(compiled.route.order)}
        self._rows: defaultdict[StepKey, list[StepKey]] = defaultdict(list)
        for key in sorted(steps, key=lambda each: steps[each].position):
            self._rows[plan_id(key)].append(key)
        self._foreachs = {frame: foreach for foreach, frame in compiled.frames.items()}

    def records(self) -> list[dict[str, Any]]:
        """Return one record for each time that a node was executed, in the order in which they began."""
        keys = [key for key in self._steps if plan_id(key) in self._compiled.nodes and self._status(key) is not None]
        return [self._record(key) for key in sorted(keys, key=self._order)]

    def output(self) -> Any:
        """Return what the task came to: what its exit was given; of several exits what each was."""
        exits = [key for key in self._keys(Role.EXIT) if self._steps[key].state is StepState.SUCCEEDED]
        outputs = [self._taken(self._compiled.given[plan_id(key)], key) for key in exits]
        if not outputs:
            done = [record["output"] for record in self.records() if record["node_status"] == "completed"]
            return done[-1] if done else None
        return outputs[0] if len(outputs) == 1 and not loops(exits[0]) else outputs

    def _keys(self, role: Role) -> list[StepKey]:
        nodes = self._compiled.route.workflow.nodes
        found = [key for key in self._steps if (node := self._compiled.nodes.get(plan_id(key))) is not None
                 and nodes[node].role is role]  # fmt: skip
        return sorted(found, key=lambda key: self._steps[key].position)

    def _order(self, key: StepKey) -> tuple[float, int]:
        step = self._steps[key]
        began = step.started_at.timestamp() if step.started_at else float("inf")
        return began, self._places[self._compiled.nodes[plan_id(key)]]

    def _status(self, key: StepKey) -> str | None:
        """How a node ended at a step; a decision and a split also by the switch that judges what they put out."""
        decider = self._compiled.deciders.get(plan_id(key))
        judged = self._steps.get(self._row(key, decider)) if decider else None
        if judged is not None and judged.state is StepState.FAILED:
            return STATUS[StepState.FAILED]
        return STATUS.get(self._steps[key].state)

    def _record(self, key: StepKey) -> dict[str, Any]:
        step, plan_step = self._steps[key], plan_id(key)
        node = self._compiled.route.workflow.nodes[self._compiled.nodes[plan_step]]
        decider = self._compiled.deciders.get(plan_step)
        judged = self._steps.get(self._row(key, decider)) if decider else None
        failed = next((each for each in (judged, step) if each and each.state is StepState.FAILED), None)
        return {
            "node_id": node.stage_id,
            "role": node.role.value,
            "kind": node.kind.value,
            "input": self._taken(self._compiled.given[plan_step], key),
            "output": self._value(self._compiled.made[plan_step], key) if failed is None else None,
            "error": failed.reason if failed else None,
            "node_status": self._status(key),
            "tool_plan": None,
            "tool_calls": [],
            "context_profile_id": node.context,
            "context_metadata": {},
            "started_at": _moment(step.started_at),
            "completed_at": _moment(step.ended_at),
            "choice": judged.choice if judged and node.role is Role.DECISION else None,
            **self.task(node.stage_id, key),
        }

    # Lineage

    def task(self, node: str, key: StepKey) -> dict[str, Any]:
        """Return the task that passed a node at a step: its id, and what it was cloned or split from."""
        task: dict[str, Any] = {
            "task_id": self._root, "parent_task_id": None, "lineage_type": None, "lineage_metadata": {},
        }  # fmt: skip
        for frame in self._compiled.route.stacks[node]:
            task = self._child(task["task_id"], frame, key)
        return task

    def _child(self, parent: str, frame: Frame, key: StepKey) -> dict[str, Any]:
        edges = self._compiled.route.workflow.out[frame.node]
        label = edges[frame.edge].label
        if not frame.is_split:
            name, kind = f"{parent}-clone-{frame.edge}", "clone"
            metadata = {"branch_label": label, "cloned_at_stage": frame.node, "clone_index": frame.edge}
        else:
            foreach = self._foreachs[frame]
            item = next(loop.item for loop in loops(key) if loop.id == foreach)
            index = item * len(edges) + frame.edge
            given = self._item(Item(foreach, Slice(self._compiled.made[frame.node], frame.edge, len(edges))), key)
            name, kind = f"{parent}-subtask-{index}", "subtask"
            metadata = {"split_edge_label": label, "split_at_stage": frame.node, "subtask_index": index,
                        "subtask_input": given}  # fmt: skip
        return {"task_id": name, "parent_task_id": parent, "lineage_type": kind, "lineage_metadata": metadata}

    # Values

    def _row(self, at: StepKey, step: str) -> StepKey:
        return resolve(at, StepKey(step), self._plan.foreach_around)

    def _taken(self, source: Source, at: StepKey) -> Any:
        """What a node was given; an exit that several routes lead to was given what came along the one taken."""
        value = self._value(source, at)
        node = self._compiled.route.workflow.nodes[self._compiled.nodes[plan_id(at)]]
        if node.role is not Role.EXIT or not isinstance(source, Parts) or not isinstance(value, list):
            return value
        if any(part.edge.target != node.stage_id for part in source.parts):
            return value  # what a merge before it was given
        outputs = [part["output"] for part in value if part["node_status"] == "completed"]
        return outputs[0] if len(outputs) == 1 else outputs

    def _value(self, source: Source, at: StepKey) -> Any:
        match source:
            case Request():
                return self._request
            case Item():
                return self._item(source, at)
            case Output():
                return self._output(source, at)
            case Unless(output=output, before=before):
                return self._output(output, at) if self._has_succeeded(at, output.step) else self._value(before, at)
            case Labelled(of=of):
                value = self._value(of, at)
                return {"decision": value} if isinstance(value, str) else value
            case Parts(parts=parts):
                return [item for part in parts for item in self._part(part, at)]

    def _has_succeeded(self, at: StepKey, step: str) -> bool:
        row = self._steps.get(self._row(at, step))
        return row is not None and row.state is StepState.SUCCEEDED

    def _output(self, output: Output, at: StepKey) -> Any:
        return self._read(self._row(at, output.step), output) if self._has_succeeded(at, output.step) else None

    def _item(self, item: Item, at: StepKey) -> Any:
        loop = next(each for each in loops(at) if each.id == item.foreach)
        found = self._value(item.items.of, loop.key)
        found = found.get("subtask_inputs") if isinstance(found, Mapping) else found
        share: Sequence[Any] = found[item.items.first :: item.items.every] if isinstance(found, list | tuple) else ()
        return share[loop.item] if loop.item < len(share) else None

    def _part(self, part: Part, at: StepKey) -> Iterator[dict[str, Any]]:
        """What came along an edge to a merge: a MergeInputItem, or one for each subtask."""
        for key in self._rows_of(part, at):
            step = self._steps.get(key)
            if step is None or step.is_untaken:
                continue
            has_succeeded = step.state is StepState.SUCCEEDED
            yield {
                "task_id": self._task_of(part, key),
                "node_id": part.node,
                "output": self._value(part.output, key) if has_succeeded else None,
                "node_status": STATUS[StepState.SUCCEEDED] if has_succeeded else STATUS[StepState.FAILED],
                "timestamp": _moment(step.ended_at),
                "lineage_metadata": self._lineage_of(part, key),
            }

    def _rows_of(self, part: Part, at: StepKey) -> list[StepKey]:
        if part.foreach is None:
            return [self._row(at, part.step)]
        foreach = self._row(at, part.foreach)
        return [key for key in self._rows[StepKey(part.step)] if key.startswith(f"{foreach}[")]

    def _task_of(self, part: Part, key: StepKey) -> str:
        return str(self._arrived(part, key)["task_id"])

    def _lineage_of(self, part: Part, key: StepKey) -> Mapping[str, Any]:
        metadata: Mapping[str, Any] = self._arrived(part, key)["lineage_metadata"]
        return metadata

    def _arrived(self, part: Part, key: StepKey) -> dict[str, Any]:
        task = self.task(part.node, key)
        open_frames = self._compiled.route.arriving(part.edge)[len(self._compiled.route.stacks[part.node]) :]
        for frame in open_frames:
            task = self._child(task["task_id"], frame, key)
        return task


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
