"""The routes of a workflow from one start: which clones and subtasks a node is passed by, and which merge ends them.

A branch and a split open a frame for each of their edges; what lies behind an edge stands in its frame until a merge
closes it. Splits decide the shape of the plan: what stands in the frame of a split is done for each of its subtasks.

Owns frames and what closes them. Only for a workflow without faults.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from agentflow.domain.graph import Graph
from agentflow.domain.ids import StepKey
from agentflow.domain.workflow import Edge, MergeMode, Role, Workflow
from agentflow.domain.workflow_check import reach


@dataclass(frozen=True, slots=True)
class Frame:
    """One edge of a branch or a split that is still open: the node, and the position of the edge among its own."""

    node: str
    edge: int
    is_split: bool


Stack = tuple[Frame, ...]


def zone_of(stack: Stack) -> Stack:
    """The splits around, the outermost first."""
    return tuple(frame for frame in stack if frame.is_split)


class Route:
    """What can be reached from one start, in the order in which it is passed."""

    def __init__(self, workflow: Workflow, start: str) -> None:
        self.workflow = workflow
        self.start = start
        reached = reach(workflow, [start])
        self.into: Mapping[str, tuple[Edge, ...]] = {
            key: tuple(edge for edge in workflow.into[key] if edge.source in reached)
            for key in workflow.nodes
            if key in reached
        }
        needs = {StepKey(key): [StepKey(edge.source) for edge in edges] for key, edges in self.into.items()}
        self.order: tuple[str, ...] = Graph({key: tuple(dict.fromkeys(found)) for key, found in needs.items()}).order
        self._positions = {edge: place for out in workflow.out.values() for place, edge in enumerate(out)}
        self.stacks: dict[str, Stack] = {}
        for key in self.order:
            self.stacks[key] = self._stack(key)

    def arriving(self, edge: Edge) -> Stack:
        """The frames in which something comes along an edge."""
        stack, source = self.stacks[edge.source], self.workflow.nodes[edge.source]
        if source.role not in (Role.BRANCH, Role.SPLIT):
            return stack
        return (*stack, Frame(edge.source, self._positions[edge], source.role is Role.SPLIT))

    def _stack(self, key: str) -> Stack:
        arriving = [self.arriving(edge) for edge in self.into[key]]
        if not arriving:
            return ()
        shared = _shared(arriving)
        alike = all(stack == shared for stack in arriving)
        if self.workflow.nodes[key].role is Role.MERGE and alike and shared and shared[-1].is_split:
            return shared[:-1]  # the ways of a decision, inside of a split: what comes along them are its subtasks
        return shared

    @cached_property
    def _closers(self) -> Mapping[str, str | None]:
        """The merge that closes the innermost frame of each node; None where none does, or it stands in none."""
        found: dict[str, str | None] = {}
        for key in reversed(self.order):
            depth = len(self.stacks[key])
            behind = [self._closer(edge.target, depth, found) for edge in self.workflow.out[key]] if depth else []
            found[key] = self._weakest([merge for merge in behind if merge is not None])
        return found

    def _closer(self, key: str | None, depth: int, closers: Mapping[str, str | None]) -> str | None:
        """The first merge from ``key`` on that leaves fewer than ``depth`` frames open."""
        while key is not None and len(self.stacks[key]) >= depth:
            key = closers[key]
        return key if key is not None and self.workflow.nodes[key].role is Role.MERGE else None

    def _weakest(self, merges: Sequence[str]) -> str | None:
        """Of several merges one that makes failures count: the others judge by what comes to them."""
        return max(merges, key=lambda key: self.workflow.nodes[key].merge_mode is MergeMode.PARTIAL, default=None)

    def mode_around(self, key: str) -> MergeMode | None:
        """The mode of the merge that closes the innermost frame of a node; None where none does."""
        merge = self._closers[key]
        return None if merge is None else self.workflow.nodes[merge].merge_mode

    def mode_behind(self, edge: Edge) -> MergeMode | None:
        """The mode of the merge that closes the frame which an edge of a branch or a split opens; None: none does."""
        merge = self._closer(edge.target, len(self.arriving(edge)), self._closers)
        return None if merge is None else self.workflow.nodes[merge].merge_mode


def _shared(stacks: Sequence[Stack]) -> Stack:
    shared: list[Frame] = []
    for frames in zip(*stacks, strict=False):
        if len(set(frames)) > 1:
            break
        shared.append(frames[0])
    return tuple(shared)
