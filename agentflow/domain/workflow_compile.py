"""From a workflow to the document of an ordinary plan, which is read and judged like one that a person wrote.

start, linear and exit are steps; a decision is a step with a switch behind it; a branch is a step with several behind
it; a split is a foreach for each of its edges, over that edge's share of the subtasks, with all up to the merge as its
body; a merge is a step with ``when: taken`` or ``any``, as its mode wants it. Owns how; only for sound workflows.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agentflow.domain.document import NOT_AVAILABLE, Path
from agentflow.domain.error import TemplateError
from agentflow.domain.fault import Fault
from agentflow.domain.workflow import AGENTS, TOOLS, WORKFLOW, Edge, MergeMode, Node, Role, Workflow
from agentflow.domain.workflow_route import Frame, Route, Stack, zone_of
from agentflow.domain.workflow_step import output_of, performed
from agentflow.domain.workflow_value import (
    INPUT,
    Item,
    Labelled,
    Part,
    Parts,
    Request,
    Slice,
    Source,
    Unless,
    UnreadableError,
    expression_of,
    items_of,
    list_of,
)

Document = dict[str, Any]
OK = "ok"
SPLIT_FAULTS = ("invalid_split_output", "empty_subtask_inputs")
"""What a split may fail for, by the founding engine's names."""
_FOREACH_TERMS: Mapping[MergeMode | None, tuple[str, str]] = {
    MergeMode.FAIL_ON_ANY: ("fail_on_any", "ignore"),
    MergeMode.IGNORE_FAILURES: ("ignore_failures", "ignore"),
    MergeMode.PARTIAL: ("partial", "continue"),
    None: ("partial", "continue"),
}
"""How a foreach of a split judges its items, and what its own failure means, by the merge behind it."""


@dataclass(frozen=True)
class Compiled:
    """The document of the plan, and what leads back from it to the workflow."""

    document: Document
    route: Route
    nodes: Mapping[str, str]
    """The node that each step stands for; other steps only hold the plan together."""
    given: Mapping[str, Source]
    """What each of these steps reads."""
    made: Mapping[str, Source]
    """What it puts out."""
    deciders: Mapping[str, str]
    """The switch behind the step of a decision or a split, which judges what it put out."""
    frames: Mapping[str, Frame]
    """The edge of a split that each foreach does."""
    places: Mapping[str, tuple[str, Path]]
    """Where each step was written: manifest and path."""
    faults: tuple[Fault, ...]


def compile_workflow(workflow: Workflow, start: str | None = None) -> Compiled:
    """Return what a run of ``workflow`` from a start, the default one unless named, comes to as a plan."""
    return _Compiler(workflow, start or workflow.default_start).compiled()


class _Compiler:
    def __init__(self, workflow: Workflow, start: str) -> None:
        self.workflow, self.route = workflow, Route(workflow, start)
        self.zones: defaultdict[Stack, list[Document]] = defaultdict(list)
        self.nodes: dict[str, str] = {}
        self.given: dict[str, Source] = {}
        self.made: dict[str, Source] = {}
        self.frames: dict[str, Frame] = {}
        self.foreachs: dict[Frame, str] = {}
        self.routes: dict[str, str] = {}
        self.deciders: dict[str, str] = {}
        self.passes: dict[Edge, str] = {}
        self.exits: dict[tuple[str, Stack], str] = {}
        self.places: dict[str, tuple[str, Path]] = {}
        self.faults: list[Fault] = []
        self.taken = set(workflow.nodes)
        self._name_all()

    def compiled(self) -> Compiled:
        for key in self.route.order:
            node = self.workflow.nodes[key]
            if node.role is Role.EXIT:
                self._add_exits(node)
            else:
                self._add_node(node)
        self._finish()
        document = {
            "agentflow": 1,
            "name": self.workflow.name,
            "vars": {INPUT: {"required": True}},
            **({"files": list(self.workflow.files)} if self.workflow.files else {}),
            "steps": self.zones[()],
        }
        return Compiled(
            document,
            self.route,
            self.nodes,
            self.given,
            self.made,
            self.deciders,
            self.frames,
            self.places,
            tuple(self.faults),
        )

    def _name(self, wanted: str) -> str:
        """Give a step that stands for no node an id that no other has."""
        name, number = wanted, 1
        while name in self.taken:
            number += 1
            name = f"{wanted}-{number}"
        self.taken.add(name)
        return name

    def _name_all(self) -> None:
        for key in self.route.order:
            node, zone = self.workflow.nodes[key], zone_of(self.route.stacks[key])
            if node.role is Role.DECISION:
                self.routes[key] = self._name(f"{key}-route")
            for edge in self.workflow.out[key]:
                arriving = self.route.arriving(edge)
                if node.role is Role.SPLIT:
                    self.foreachs[arriving[-1]] = self._name(f"{key}-{arriving[-1].edge + 1}")
                    self.frames[self.foreachs[arriving[-1]]] = arriving[-1]
                if self._passes_by(node, edge):
                    self.passes[edge] = self._name(f"{key}-to-{edge.target}"[:60])
            if node.role is Role.EXIT:
                zones = dict.fromkeys(zone_of(self.route.arriving(edge)) for edge in self.route.into[key])
                for number, zone in enumerate(zones):
                    self.exits[key, zone] = self._name(f"{key}-{number + 1}") if number else key

    def _passes_by(self, node: Node, edge: Edge) -> bool:
        """Whether nothing stands between a choice and the merge that it leads to: then a step must, to be counted."""
        is_merge = self.workflow.nodes[edge.target].role is Role.MERGE
        return is_merge and node.role in (Role.DECISION, Role.SPLIT)

    # What is read and put out

    def _given(self, node: Node, edges: Sequence[Edge], zone: Stack) -> Source:
        if not edges:
            return Request()
        if node.role is Role.MERGE or len(edges) > 1:
            return Parts(tuple(self._part(edge, zone) for edge in edges))
        return self._along(edges[0])

    def _along(self, edge: Edge) -> Source:
        source = self.workflow.nodes[edge.source]
        if source.role is not Role.SPLIT:
            return self.made[edge.source]
        frame = self.route.arriving(edge)[-1]
        return Item(
            self.foreachs[frame], Slice(self.made[edge.source], frame.edge, len(self.workflow.out[edge.source]))
        )

    def _part(self, edge: Edge, zone: Stack) -> Part:
        deeper = zone_of(self.route.arriving(edge))[len(zone) :]
        foreach = self.foreachs[deeper[0]] if deeper else None
        return Part(edge, self.passes.get(edge) or edge.source, self._along(edge), foreach)

    def _request(self, zone: Stack) -> Source:
        if not zone:
            return Request()
        split, out = zone[-1].node, self.workflow.out[zone[-1].node]
        return Item(self.foreachs[zone[-1]], Slice(self.made[split], zone[-1].edge, len(out)))

    # The steps of a node

    def _add_node(self, node: Node) -> None:
        key, zone = node.stage_id, zone_of(self.route.stacks[node.stage_id])
        edges = self.route.into[key]
        given = self._given(node, edges, zone)
        output = output_of(self.workflow, node, key)
        made: Source = given if output is None else Unless(output, given) if node.goes_on else output
        self.made[key] = Labelled(made) if node.role is Role.DECISION else made
        self._add(node, key, zone, given, self._needs(edges, zone))
        if node.role is Role.DECISION:
            self._add_route(node, zone, made)
        if node.role is Role.SPLIT:
            self._add_foreachs(node, zone)

    def _add(self, node: Node, step: str, zone: Stack, given: Source, needs: Sequence[str]) -> None:
        self.nodes[step], self.given[step] = node.stage_id, given
        self.made.setdefault(step, given)
        self.places[step] = self._place(node)
        try:
            action = performed(self.workflow, node, given, self._request(zone))
        except UnreadableError as error:
            text = f"{node.stage_id} would read {error}, which is not available in this version: let it read nothing"
            self.faults.append(Fault(NOT_AVAILABLE, text, node.path, node.stage_id, file=WORKFLOW))
            return
        except TemplateError as error:
            file, path = self.places[step]
            self.faults.append(Fault("template_syntax", str(error), path, node.stage_id, file=file))
            return
        on_failure = self._on_failure(node)
        when = self._when(node, needs)
        self.zones[zone].append({"id": step, "needs": list(needs), **when, **on_failure, **action})

    def _place(self, node: Node) -> tuple[str, Path]:
        if node.agent_id is not None:
            return AGENTS, self.workflow.agents[node.agent_id].path
        if node.operation is not None:
            return TOOLS, self.workflow.operations[node.operation].path
        return WORKFLOW, node.path

    def _needs(self, edges: Sequence[Edge], zone: Stack) -> list[str]:
        ends = (self._end(edge, zone) for edge in edges)
        return list(dict.fromkeys(end for end in ends if end is not None))

    def _end(self, edge: Edge, zone: Stack) -> str | None:
        """The step of ``zone`` that must end before what an edge leads to; None where a body begins."""
        arriving = zone_of(self.route.arriving(edge))
        source = self.workflow.nodes[edge.source]
        if len(arriving) > len(zone):
            return self.foreachs[arriving[len(zone)]]
        if source.role is Role.SPLIT:
            return None
        return self.passes.get(edge) or self.routes.get(edge.source) or edge.source

    def _when(self, node: Node, needs: Sequence[str]) -> Document:
        if node.role is Role.MERGE:
            return {"when": "taken" if node.merge_mode is MergeMode.FAIL_ON_ANY else "any"}
        if len(needs) > 1:
            return {"when": "any"}
        before = self.workflow.nodes.get(self.nodes.get(needs[0], "")) if needs else None
        return _once_over(needs[0]) if before is not None and before.goes_on else {}

    def _on_failure(self, node: Node) -> Document:
        """What the failure of a node means: a clone's is for its merge to judge, a subtask's for its foreach."""
        stack = self.route.stacks[node.stage_id]
        if node.goes_on:
            return {"on_failure": "ignore"}
        if not stack or zone_of(stack):
            return {}
        is_partial = self.route.mode_around(node.stage_id) is MergeMode.PARTIAL
        return {"on_failure": "continue" if is_partial else "ignore"}

    # What follows from a role

    def _add_route(self, node: Node, zone: Stack, read: Source) -> None:
        cases: dict[str, list[str]] = {}
        for edge in self.workflow.out[node.stage_id]:
            target = self.passes.get(edge) or self.exits.get((edge.target, zone)) or edge.target
            cases[edge.label] = [target]
        self._add_switch(node, self.routes[node.stage_id], zone, {"on": expression_of(read), "cases": cases})
        for edge in self.workflow.out[node.stage_id]:
            if edge in self.passes:
                step = {"id": self.passes[edge], "needs": [self.routes[node.stage_id]], "noop": {}}
                self.zones[zone].append({**step, **self._on_failure(node)})

    def _add_switch(self, node: Node, step: str, zone: Stack, switch: Document) -> None:
        when = _once_over(node.stage_id) if node.goes_on else {}
        on_failure = self._on_failure(node) if not node.goes_on else {}
        self.places[step] = (WORKFLOW, node.path)
        self.deciders[node.stage_id] = step
        self.zones[zone].append({"id": step, "needs": [node.stage_id], **when, **on_failure, "switch": switch})

    def _add_foreachs(self, node: Node, zone: Stack) -> None:
        """Check what a split put out, and begin a foreach for each edge, whose body is filled as its nodes come."""
        edges, check = self.workflow.out[node.stage_id], self._name(f"{node.stage_id}-check")
        frames = [self.route.arriving(edge)[-1] for edge in edges]
        found = list_of(self.made[node.stage_id])
        is_list = f"({found}) is sequence and ({found}) is not string and ({found}) is not mapping"
        invalid, empty = SPLIT_FAULTS
        on = f"({OK!r} if ({found}) | length else {empty!r}) if {is_list} else {invalid!r}"
        foreachs = [self.foreachs[frame] for frame in frames]
        self._add_switch(node, check, zone, {"on": on, "cases": {OK: foreachs}, "fail": list(SPLIT_FAULTS)})
        for edge, frame, foreach in zip(edges, frames, foreachs, strict=True):
            merge, on_failure = _FOREACH_TERMS[self.route.mode_behind(edge)]
            items = items_of(Slice(self.made[node.stage_id], frame.edge, len(edges)))
            body = self.zones[*zone, frame]
            if edge in self.passes:
                body.append({"id": self.passes[edge], "needs": [], "noop": {}})
            terms = {"items": items, "merge": merge}
            step = {"id": foreach, "needs": [check], "foreach": terms, "steps": body, "on_failure": on_failure}
            self.places[foreach] = (WORKFLOW, edge.path)
            self.zones[zone].append(step)

    def _add_exits(self, node: Node) -> None:
        for (key, zone), step in self.exits.items():
            if key != node.stage_id:
                continue
            edges = [edge for edge in self.route.into[key] if zone_of(self.route.arriving(edge)) == zone]
            needs = self._needs(edges, zone)
            if len(needs) > 1:
                needs = [self._bridge(each, zone) for each in needs]
            self._add(node, step, zone, self._given(node, edges, zone), needs)

    def _bridge(self, step: str, zone: Stack) -> str:
        """A step that succeeds although ``step`` failed, where its failure does not count."""
        node = self.workflow.nodes.get(self.nodes.get(step, ""))
        if node is None or not node.goes_on:
            return step
        bridge = self._name(f"{step}-over")
        self.zones[zone].append({"id": bridge, "needs": [step], **_once_over(step), "noop": {}})
        return bridge

    def _finish(self) -> None:
        """Let the run fail of which no clone and no subtask came to an end, where no merge says so."""
        steps = self.zones[()]
        exits = [step for (_, zone), step in self.exits.items() if not zone]
        ends = [self.foreachs[frame] for frame in self._unmerged()]
        may_fail = any("on_failure" in step for step in steps if step["id"] in exits)
        if len(exits) + len(ends) > 1 or ends or may_fail:
            steps.append({"id": self._name("finish"), "needs": [*exits, *ends], "when": "any", "noop": {}})

    def _unmerged(self) -> list[Frame]:
        """The outermost foreachs that no merge stands behind."""
        return [
            frame
            for frame in self.foreachs
            if not zone_of(self.route.stacks[frame.node])
            and self.route.mode_behind(self.workflow.out[frame.node][frame.edge]) is None
        ]


def _once_over(step: str) -> Document:
    return {"when": f"steps[{step!r}].state in ('succeeded', 'failed')"}
