"""Workflows for tests, written short: nodes by role, edges as ``a > b`` or ``a > b: label``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from agentflow.domain.fault import Fault
from agentflow.domain.plan import Plan
from agentflow.domain.plan_document import read_plan
from agentflow.domain.workflow import Agent, Edge, Kind, Node, Operation, Role, Workflow
from agentflow.domain.workflow_check import check_nodes, check_workflow
from agentflow.domain.workflow_compile import Compiled, compile_workflow

SAY = Operation("say", "subprocess", {"command": ["cat"]}, is_json=True, timeout=None, path=("tools", 0))
WRITER = Agent("writer", {"model": "test:m", "prompt": "Write: {{ input }}"}, None, ("agents", 0))


def node(key: str, role: str, **more: Any) -> Node:
    """A deterministic node unless told otherwise."""
    return Node(stage_id=key, role=Role(role), kind=more.pop("kind", Kind.DETERMINISTIC), path=("nodes", key), **more)


def workflow(nodes: Mapping[str, Any], edges: str) -> Workflow:
    """A workflow of these nodes; the first start is the default one."""
    found = {key: each if isinstance(each, Node) else node(key, each) for key, each in nodes.items()}
    first = next(key for key, each in found.items() if each.role is Role.START)
    if not any(each.is_default_start for each in found.values()):
        found[first] = replace(found[first], is_default_start=True)
    return Workflow("tested", found, tuple(_edges(edges)), {"writer": WRITER}, {"say": SAY})


def _edges(text: str) -> Sequence[Edge]:
    written = [line.strip() for line in text.replace(",", "\n").splitlines() if line.strip()]
    edges = []
    for number, line in enumerate(written):
        way, _, label = line.partition(":")
        source, target = (part.strip() for part in way.split(">"))
        edges.append(Edge(source, target, label.strip() or None, ("edges", number)))
    return edges


def faults_of(found: Workflow) -> list[Fault]:
    """Every fault of the graph."""
    return [*check_nodes(list(found.nodes.values()), found.edges)] or [*check_workflow(found)]


def compiled(nodes: Mapping[str, Any], edges: str, start: str | None = None) -> tuple[Plan, Compiled]:
    """The plan of a workflow without faults."""
    found = workflow(nodes, edges)
    assert not faults_of(found)
    done = compile_workflow(found, start)
    assert not done.faults
    reading = read_plan(done.document)
    assert reading.plan is not None, reading.faults
    return reading.plan, done


def write_manifests(folder: Path, nodes: Sequence[Mapping[str, Any]], edges: Sequence[Mapping[str, Any]], *,
                    agents: Sequence[Any] = (), tools: Sequence[Any] = (), **more: Any) -> Path:  # fmt: skip
    """Write the three manifests of a workflow into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in (
        ("workflow", {"name": "tested", "nodes": list(nodes), "edges": list(edges), **more}),
        ("agents", {"agents": list(agents)}),
        ("tools", {"tools": list(tools)}),
    ):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(data, sort_keys=False), encoding="utf-8")
    return folder
