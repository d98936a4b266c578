"""Load a workflow directory: workflow.yaml, agents.yaml and tools.yaml, compiled into an ordinary plan.

Owns the way from a directory to a LoadedPlan, or to every fault of a stage with file and line: the manifests are there
and are YAML, their fields are known, the graph can run, and the plan that comes out of it has no fault.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from agentflow.domain.document import NOT_AVAILABLE, Value
from agentflow.domain.error import (
    DAGValidationError,
    ManifestLoadError,
    NotFound,
    PlanRejected,
    SchemaValidationError,
    UsageError,
)
from agentflow.domain.fault import Fault
from agentflow.domain.plan_document import AVAILABLE_ACTIONS, read_plan
from agentflow.domain.source_map import Mark, SourceDocument
from agentflow.domain.wording import did_you_mean, shorten
from agentflow.domain.workflow import AGENTS, MANIFESTS, TOOLS, WORKFLOW, Role, Workflow
from agentflow.domain.workflow_check import check_nodes, check_workflow
from agentflow.domain.workflow_compile import Compiled, compile_workflow
from agentflow.domain.workflow_document import LATER_FILES, read_agents, read_tools, read_workflow
from agentflow.engine.capture_files import MAX_FILE_BYTES, capture_files
from agentflow.engine.check_schemas import check_schemas
from agentflow.engine.load_plan import LoadedPlan, decode_document, examine_plan, load_plan, read_document
from agentflow.engine.parse_yaml import parse_yaml


@dataclass(frozen=True)
class Manifests:
    """A workflow as its directory has it, with the lines of its files."""

    folder: Path
    workflow: Workflow
    marks: Mapping[str, Mark]

    def placed(self, faults: Iterable[Fault]) -> tuple[Fault, ...]:
        """Return faults that name a manifest and a path in it, with file and line, each once, in order."""
        return _placed(self.folder, self.marks, faults)


@dataclass(frozen=True)
class LoadedWorkflow:
    """The plan of a workflow from one start, and what leads back from its steps to the nodes."""

    plan: LoadedPlan
    compiled: Compiled


def is_workflow(path: str | Path) -> bool:
    """Whether ``path`` is a directory that means to be a workflow."""
    folder = Path(path)
    return folder.is_dir() and any((folder / name).is_file() for name in MANIFESTS)


def read_manifests(path: str | Path) -> Manifests:
    """Read and judge the manifests of a directory.

    Raises ManifestLoadError, SchemaValidationError or DAGValidationError with every fault of that stage.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise NotFound(f"There is no workflow directory {str(path)!r} (looked in {Path.cwd()}).", path=str(path))
    documents = _load(folder)
    marks = {name: document.marks for name, document in documents.items() if document.marks is not None}
    faults: list[Fault] = []
    values = {name: _Values(name, document, faults) for name, document in documents.items()}
    name, nodes, edges = read_workflow(values[WORKFLOW].root, _name_of(folder))
    agents = read_agents(values[AGENTS].root)
    operations, files = read_tools(values[TOOLS].root)
    faults += [fault for each in values.values() for fault in each.found()]
    if faults:
        raise SchemaValidationError(_placed(folder, marks, faults))
    faults += check_nodes(nodes, edges)
    workflow = Workflow(name, {node.stage_id: node for node in nodes}, tuple(edges), agents, operations, files)
    if not faults:
        faults += check_workflow(workflow)
    if faults:
        raise DAGValidationError(_placed(folder, marks, faults))
    return Manifests(folder, workflow, marks)


class _Values:
    """A manifest while it is read; its faults carry its name."""

    def __init__(self, name: str, document: SourceDocument, faults: list[Fault]) -> None:
        self._name, self._own = name, list[Fault]()
        spelling = document.marks.spelling if document.marks is not None else None
        self.root = Value(document.data, (), self._own, None, spelling or (lambda _path: None))

    def found(self) -> list[Fault]:
        return [replace(fault, file=self._name) for fault in self._own]


def compile_manifests(
    manifests: Manifests,
    start: str | None = None,
    *,
    available_actions: Collection[str] = AVAILABLE_ACTIONS,
    max_file_bytes: int = MAX_FILE_BYTES,
) -> LoadedWorkflow:
    """Return the plan of a workflow from the start ``start``, the default one unless named.

    PlanRejected with the faults that only the plan shows, NotFound for what is no start node.
    """
    workflow = manifests.workflow
    if start is not None:
        _check_start(workflow, start)
    compiled = compile_workflow(workflow, start)
    reading = read_plan(compiled.document, available_actions=available_actions)
    capture = capture_files(manifests.folder, reading.file_patterns, max_file_bytes=max_file_bytes)
    found = [*compiled.faults]
    if not found:  # a step that could not be written would be missed by all that need it
        found += [_of_manifest(fault, compiled) for fault in (*reading.faults, *check_schemas(reading.schemas))]
        found += [replace(fault, file=TOOLS, path=("files",)) for fault in capture.faults]
    if found or reading.plan is None:
        raise PlanRejected(manifests.placed(found))
    plan = reading.plan.model_validate(dict(reading.plan) | {"files": capture.plan_files()})
    return LoadedWorkflow(LoadedPlan(plan, reading.content, capture.paths, str(manifests.folder)), compiled)


def load_workflow(
    path: str | Path,
    *,
    start: str | None = None,
    available_actions: Collection[str] = AVAILABLE_ACTIONS,
    max_file_bytes: int = MAX_FILE_BYTES,
) -> LoadedWorkflow:
    """Return the plan of the workflow in a directory. Raises what reading and compiling it raise."""
    return compile_manifests(
        read_manifests(path), start, available_actions=available_actions, max_file_bytes=max_file_bytes
    )


def examine(
    path: str | Path, *, available_actions: Collection[str] = AVAILABLE_ACTIONS
) -> tuple[LoadedPlan | None, tuple[Fault, ...]]:
    """Return the plan in a file, or of a workflow directory, or None and its faults. Raises as load_plan does."""
    if not is_workflow(path):
        return examine_plan(path, available_actions=available_actions)
    try:
        return load_workflow(path, available_actions=available_actions).plan, ()
    except PlanRejected as rejected:
        return None, rejected.faults


def load(path: str | Path, *, available_actions: Collection[str] = AVAILABLE_ACTIONS) -> LoadedPlan:
    """Return the plan in a file, or of a workflow directory from its default start. Raises as load_plan does."""
    if is_workflow(path):
        return load_workflow(path, available_actions=available_actions).plan
    return load_plan(path, available_actions=available_actions)


def _check_start(workflow: Workflow, start: str) -> None:
    starts = [key for key, node in workflow.nodes.items() if node.role is Role.START]
    if start not in starts:
        raise NotFound(f"{shorten(start)!r} is no start node: {did_you_mean(start, starts)}", start=start)


def _load(folder: Path) -> dict[str, SourceDocument]:
    faults = [
        Fault(NOT_AVAILABLE, f"{name} is not available in this version: remove it", file=name)
        for name in LATER_FILES
        if (folder / name).exists()
    ]
    documents: dict[str, SourceDocument] = {}
    for name in MANIFESTS:
        file = folder / name
        if not file.is_file():
            faults.append(Fault("missing_manifest", f"the workflow has no {name}: write one", file=name))
            continue
        try:
            text, broken = decode_document(read_document(file), str(file))
        except UsageError as error:
            faults.append(Fault("unreadable_manifest", str(error), file=name))
            continue
        documents[name] = SourceDocument(faults=broken) if text is None else parse_yaml(text, str(file))
        faults += documents[name].faults
    if faults:
        raise ManifestLoadError(_placed(folder, {}, faults))
    return documents


def _of_manifest(fault: Fault, compiled: Compiled) -> Fault:
    """A fault of the plan, at the place from which its step was written."""
    file, path = compiled.places.get(fault.step or "", (WORKFLOW, ()))
    rest = fault.path[3:] if file == AGENTS else fault.path[2:] if file == TOOLS else ()
    return replace(fault, file=file, path=(*path, *rest))


def _placed(folder: Path, marks: Mapping[str, Mark], faults: Iterable[Fault]) -> tuple[Fault, ...]:
    placed = dict.fromkeys(_at(folder, marks, fault) for fault in faults)
    return tuple(sorted(placed, key=lambda fault: (fault.file or "", fault.line or 0, fault.column or 0)))


def _at(folder: Path, marks: Mapping[str, Mark], fault: Fault) -> Fault:
    if fault.line is not None or fault.file is None:
        return fault
    mark = marks[fault.file].nearest(fault.path) if fault.file in marks else Mark(1, 1)
    return replace(fault, file=str(folder / fault.file), line=mark.line, column=mark.column)


def _name_of(folder: Path) -> str:
    """The plan's name where the workflow writes none: that of its directory."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip(".-")[:100] or "workflow"
