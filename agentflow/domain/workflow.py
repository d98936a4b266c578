"""A workflow as three manifests describe it: nodes with roles, the edges between them, agents and operations.

Owns the types. Reading them is workflow_document's, the rules of the graph workflow_check's; what a workflow comes to
is a Plan like any other (workflow_compile).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

from agentflow.domain.document import Path

WORKFLOW, AGENTS, TOOLS = "workflow.yaml", "agents.yaml", "tools.yaml"
MANIFESTS = (WORKFLOW, AGENTS, TOOLS)
NODE_TIMEOUT = "300s"
"""How long a node may take that says nothing."""
ARGUMENT = "input"
"""The argument in which a function is given what its node is."""


class Kind(StrEnum):
    """Who does what a node does."""

    AGENT = "agent"
    DETERMINISTIC = "deterministic"


class Role(StrEnum):
    """What a node is to the route."""

    START = "start"
    LINEAR = "linear"
    DECISION = "decision"
    BRANCH = "branch"
    SPLIT = "split"
    MERGE = "merge"
    EXIT = "exit"


class MergeMode(StrEnum):
    """What failed parts make of a merge."""

    FAIL_ON_ANY = "fail_on_any"
    IGNORE_FAILURES = "ignore_failures"
    PARTIAL = "partial"


@dataclass(frozen=True, slots=True)
class Node:
    """One node; ``path`` is where it stands in workflow.yaml."""

    stage_id: str
    role: Role
    kind: Kind
    path: Path
    name: str = ""
    agent_id: str | None = None
    operation: str | None = None
    context: str = "none"
    is_default_start: bool = False
    goes_on: bool = False
    """``continue_on_failure``: its failure is recorded, and the route goes on."""
    always_fails: bool = False
    merge_mode: MergeMode = MergeMode.FAIL_ON_ANY


@dataclass(frozen=True, slots=True)
class Edge:
    """One way from a node to another; ``path`` is where it stands in workflow.yaml."""

    source: str
    target: str
    condition: str | None
    path: Path

    @property
    def label(self) -> str:
        """What a decision calls it, and a branch its clone."""
        return self.condition or self.target


@dataclass(frozen=True, slots=True)
class Agent:
    """Who answers for nodes of kind agent: ``llm`` as a plan writes it, its texts with ``input`` and ``request``."""

    agent_id: str
    llm: Mapping[str, Any]
    timeout: str | None
    path: Path


@dataclass(frozen=True, slots=True)
class Operation:
    """What a deterministic node does: one action as a plan writes it."""

    tool_id: str
    action: str
    fields: Mapping[str, Any]
    is_json: bool
    """Whether what a command writes is JSON; else it is text."""
    timeout: str | None
    path: Path


@dataclass(frozen=True)
class Workflow:
    """A workflow whose manifests could be read."""

    name: str
    nodes: Mapping[str, Node]
    edges: tuple[Edge, ...]
    agents: Mapping[str, Agent] = field(default_factory=dict)
    operations: Mapping[str, Operation] = field(default_factory=dict)
    files: tuple[str, ...] = ()
    """Globs of the files that its operations need."""

    @cached_property
    def out(self) -> Mapping[str, tuple[Edge, ...]]:
        """The edges that leave each node, in the order in which they are written."""
        return self._by(lambda edge: edge.source)

    @cached_property
    def into(self) -> Mapping[str, tuple[Edge, ...]]:
        """The edges that lead to each node."""
        return self._by(lambda edge: edge.target)

    def _by(self, end: Any) -> Mapping[str, tuple[Edge, ...]]:
        found: defaultdict[str, list[Edge]] = defaultdict(list)
        for edge in self.edges:
            found[end(edge)].append(edge)
        return {key: tuple(found[key]) for key in self.nodes}

    @property
    def default_start(self) -> str:
        """The node where a run starts that is told nothing."""
        return next(node.stage_id for node in self.nodes.values() if node.is_default_start)
