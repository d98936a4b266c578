"""The rules of a workflow's graph: how many edges each role has, who may be what, and that every route comes to an end.

Owns the faults; codes are the founding engine's error ids where it had one.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from agentflow.domain.fault import Fault
from agentflow.domain.graph import find_cycles
from agentflow.domain.ids import StepKey
from agentflow.domain.wording import did_you_mean, listing, shorten
from agentflow.domain.workflow import AGENTS, TOOLS, WORKFLOW, Edge, Kind, Node, Role, Workflow


@dataclass(frozen=True, slots=True)
class Counts:
    """How many edges lead to a node of a role, and how many leave it; None: as many as there are."""

    least_in: int
    most_in: int | None
    least_out: int
    most_out: int | None


EDGE_COUNTS: Mapping[Role, Counts] = {
    Role.START: Counts(0, 0, 1, 1),
    Role.LINEAR: Counts(1, 1, 1, 1),
    Role.DECISION: Counts(1, 1, 2, None),
    Role.BRANCH: Counts(1, 1, 2, None),
    Role.SPLIT: Counts(1, 1, 1, None),
    Role.MERGE: Counts(2, None, 1, 1),
    Role.EXIT: Counts(1, None, 0, 0),
}


def check_nodes(nodes: Sequence[Node], edges: Sequence[Edge]) -> Iterator[Fault]:
    """Yield what is wrong before there is a graph: repeated ids, and edges to nodes that are not there."""
    seen: set[str] = set()
    for node in nodes:
        if node.stage_id in seen:
            yield _of_node(node, "duplicate_id", f"the stage_id {node.stage_id!r} stands twice")
        seen.add(node.stage_id)
    for edge in edges:
        for field, key in (("from_node_id", edge.source), ("to_node_id", edge.target)):
            if key not in seen:
                yield _at(edge, "invalid_target_node", f"{field} names {shorten(key)!r}: {did_you_mean(key, seen)}")


def check_workflow(workflow: Workflow) -> Iterator[Fault]:
    """Yield every fault of a workflow whose edges all lead to nodes of it."""
    for node in workflow.nodes.values():
        yield from _check_performer(workflow, node)
        yield from _check_words(node)
        yield from _check_counts(node, len(workflow.into[node.stage_id]), len(workflow.out[node.stage_id]))
    yield from _check_edges(workflow)
    yield from _check_starts(workflow)
    cycles = find_cycles(
        {StepKey(key): [StepKey(edge.source) for edge in workflow.into[key]] for key in workflow.nodes}
    )
    for cycle in cycles:
        yield _of_node(workflow.nodes[cycle[0]], "cycle", f"Cycle detected: {' <- '.join((*cycle, cycle[0]))}")
    if not cycles:
        yield from _check_reach(workflow)


def _check_performer(workflow: Workflow, node: Node) -> Iterator[Fault]:
    if node.role in (Role.START, Role.EXIT) and node.kind is Kind.AGENT:
        yield _of_node(node, "invalid_node_role", f"{_an(node.role)} node is deterministic")
    if node.kind is Kind.AGENT:
        if node.agent_id is None:
            yield _of_node(node, "missing_field", "a node of kind agent has an agent_id: write one")
        elif node.agent_id not in workflow.agents:
            hint = did_you_mean(node.agent_id, workflow.agents)
            yield _of_node(node, "unknown_agent", f"{AGENTS} has no agent {shorten(node.agent_id)!r}: {hint}")
        if node.operation is not None:
            yield _of_node(node, "bad_value", "operation is for deterministic nodes: an agent answers by itself")
        return
    if node.agent_id is not None:
        yield _of_node(node, "bad_value", "agent_id is for nodes of kind agent: remove it, or write kind: agent")
    if node.operation is None:
        return
    if node.role is Role.EXIT:
        yield _of_node(node, "bad_value", "an exit only reads how the task stands: remove its operation")
    elif node.operation not in workflow.operations:
        hint = did_you_mean(node.operation, workflow.operations)
        yield _of_node(node, "unknown_tool", f"{TOOLS} has no tool {shorten(node.operation)!r}: {hint}")


def _check_words(node: Node) -> Iterator[Fault]:
    if node.is_default_start and node.role is not Role.START:
        yield _of_node(node, "bad_value", "default_start is for start nodes")
    if node.always_fails and node.role is not Role.EXIT:
        yield _of_node(node, "bad_value", "always_fail is for exits")
    if node.goes_on and node.role is Role.EXIT:
        yield _of_node(node, "bad_value", "continue_on_failure has no meaning at an exit: nothing follows it")


def _an(role: str) -> str:
    return f"an {role}" if role == "exit" else f"a {role}"


def _check_counts(node: Node, arriving: int, leaving: int) -> Iterator[Fault]:
    counts = EDGE_COUNTS[node.role]
    for found, least, most, which in (
        (arriving, counts.least_in, counts.most_in, "inbound"),
        (leaving, counts.least_out, counts.most_out, "outbound"),
    ):
        wanted = f"exactly {least}" if least == most else f"at least {least}"
        told = f"{_an(node.role)} has {wanted} {which} edges, {node.stage_id} has {found}"
        if found < least:
            code = "no_outbound_edges" if which == "outbound" and not found else "insufficient_edges"
            yield _of_node(node, code, told)
        elif most is not None and found > most:
            yield _of_node(node, "too_many_edges", told)


def _check_edges(workflow: Workflow) -> Iterator[Fault]:
    for key, node in workflow.nodes.items():
        labels: set[str] = set()
        targets: set[str] = set()
        for edge in workflow.out[key]:
            if node.role is Role.DECISION and edge.label in labels:
                yield _at(edge, "duplicate_label", f"{key} has two edges called {shorten(edge.label)!r}: rename one")
            elif node.role is not Role.DECISION and edge.target in targets:
                yield _at(edge, "duplicate_edge", f"{key} has two edges to {edge.target}: put a linear node between")
            labels.add(edge.label)
            targets.add(edge.target)


def _check_starts(workflow: Workflow) -> Iterator[Fault]:
    nodes = workflow.nodes.values()
    defaults = [node for node in nodes if node.is_default_start and node.role is Role.START]
    if len(defaults) != 1:
        named = listing([node.stage_id for node in defaults]) or "none"
        yield Fault("default_start", f"exactly one start node is the default_start, not {named}", file=WORKFLOW)
    if not any(node.role is Role.EXIT for node in nodes):
        yield Fault("no_exit", "the workflow has no exit: a route ends at one", file=WORKFLOW)


def _check_reach(workflow: Workflow) -> Iterator[Fault]:
    starts = [key for key, node in workflow.nodes.items() if node.role is Role.START]
    reached = reach(workflow, starts)
    for key, node in workflow.nodes.items():
        if key not in reached:
            yield _of_node(node, "unreachable", f"Unreachable: no start leads to {key}")
    for start in starts:
        if not any(workflow.nodes[key].role is Role.EXIT for key in reach(workflow, [start])):
            yield _of_node(workflow.nodes[start], "no_exit", f"the start {start} reaches no exit")


def reach(workflow: Workflow, starts: Iterable[str]) -> Collection[str]:
    """Return the nodes that can be reached from ``starts``, these among them."""
    reached: dict[str, None] = {}
    work = list(starts)
    while work:
        key = work.pop()
        if key not in reached:
            reached[key] = None
            work.extend(edge.target for edge in workflow.out[key])
    return reached


def _of_node(node: Node, code: str, message: str) -> Fault:
    return Fault(code, message, node.path, node.stage_id, file=WORKFLOW)


def _at(edge: Edge, code: str, message: str) -> Fault:
    return Fault(code, message, edge.path, edge.source, file=WORKFLOW)
