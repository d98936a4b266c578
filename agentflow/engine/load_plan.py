"""Load a plan from a file, with the files beside it.

Owns the way from a path to a LoadedPlan, or to every fault with its line: read, parse, judge, capture. What a document
means is domain/plan_document's; the plans of child runs beside it are read by load_children.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from agentflow.domain.error import NotFound, PlanRejected, UsageError
from agentflow.domain.fault import Fault
from agentflow.domain.plan import Plan
from agentflow.domain.plan_document import AVAILABLE_ACTIONS, PlanReading, read_plan
from agentflow.domain.source_map import Mark
from agentflow.engine.capture_files import MAX_FILE_BYTES, Capture, capture_files
from agentflow.engine.check_schemas import check_schemas
from agentflow.engine.load_children import Brought, Children, load_children
from agentflow.engine.parse_json import parse_json
from agentflow.engine.parse_yaml import parse_yaml

MAX_DOCUMENT_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True)
class LoadedPlan:
    """A plan with all that it needs from its author's machine.

    ``content`` holds prompts, system texts and stdin by SHA-256; ``files`` the captured files by their path in the
    plan; ``source`` names the document for people, ``marks`` its lines where it was a text. ``brought`` is what the
    plans of its child runs need that are files too, by SHA-256: documents, texts and files.
    """

    plan: Plan
    content: Mapping[str, bytes]
    files: Mapping[str, Path]
    source: str
    marks: Mark | None = field(default=None, repr=False, compare=False)
    brought: Brought = field(default_factory=dict)

    def placed(self, faults: Iterable[Fault]) -> tuple[Fault, ...]:
        """Return ``faults`` that were found in the plan after it was loaded, with their lines where those are known."""
        if self.marks is None:
            return tuple(faults)
        marks = self.marks
        return tuple(_placed(fault, marks, self.source) for fault in faults)


def load_plan(
    path: str | Path,
    *,
    available_actions: Collection[str] = AVAILABLE_ACTIONS,
    max_file_bytes: int = MAX_FILE_BYTES,
) -> LoadedPlan:
    """Return the plan in the YAML or JSON file ``path``.

    Raises PlanRejected with every fault, NotFound when there is no such file and UsageError when it cannot be read.
    """
    loaded, faults = examine_plan(path, available_actions=available_actions, max_file_bytes=max_file_bytes)
    if loaded is None:
        raise PlanRejected(faults)
    return loaded


def examine_plan(
    path: str | Path,
    *,
    available_actions: Collection[str] = AVAILABLE_ACTIONS,
    max_file_bytes: int = MAX_FILE_BYTES,
) -> tuple[LoadedPlan | None, tuple[Fault, ...]]:
    """Return the plan at ``path``, or None and its faults in the order of the file. Raises as load_plan does."""
    return _examine(Path(path), (), str(path), available_actions, max_file_bytes)


def _examine(
    file: Path, above: tuple[Path, ...], path: str, available_actions: Collection[str], max_file_bytes: int
) -> tuple[LoadedPlan | None, tuple[Fault, ...]]:
    text, faults = decode_document(read_document(file), path)
    if text is None:
        return None, faults
    document = parse_json(text, path) if _is_json(file, text) else parse_yaml(text, path)
    if document.marks is None:
        return None, document.faults
    marks = document.marks
    reading = read_plan(document.data, available_actions=available_actions, written=marks.spelling)
    capture = capture_files(file.parent, reading.file_patterns, document=file, max_file_bytes=max_file_bytes)

    def examine(child: Path, above_it: tuple[Path, ...]) -> tuple[LoadedPlan | None, tuple[Fault, ...]]:
        return _examine(child, above_it, str(child), available_actions, max_file_bytes)

    children = load_children(file.parent, reading.runs, examine, above=(*above, file.resolve()))
    judged = (*reading.faults, *check_schemas(reading.schemas), *capture.faults, *children.faults)
    found = [*document.faults, *(_placed(fault, marks, path) if fault.file is None else fault for fault in judged)]
    return _finish(reading, capture, children, path, found, marks)


def load_data(
    data: Any,
    folder: str | Path,
    *,
    source: str = "plan",
    available_actions: Collection[str] = AVAILABLE_ACTIONS,
    max_file_bytes: int = MAX_FILE_BYTES,
    children: Mapping[str, LoadedPlan] | None = None,
) -> LoadedPlan:
    """Return the plan of a document that was built in Python, with the files of ``folder``. Raises PlanRejected.

    ``children`` are plans of child runs that were built too, by what the document writes for them.
    """
    reading = read_plan(data, available_actions=available_actions)
    capture = capture_files(Path(folder), reading.file_patterns, max_file_bytes=max_file_bytes)

    def examine(child: Path, above: tuple[Path, ...]) -> tuple[LoadedPlan | None, tuple[Fault, ...]]:
        return _examine(child, above, str(child), available_actions, max_file_bytes)

    below = load_children(Path(folder), reading.runs, examine, given=children)
    found = [*reading.faults, *check_schemas(reading.schemas), *capture.faults, *below.faults]
    loaded, faults = _finish(reading, capture, below, source, found)
    if loaded is None:
        raise PlanRejected(faults)
    return loaded


def _finish(
    reading: PlanReading,
    capture: Capture,
    children: Children,
    source: str,
    faults: list[Fault],
    marks: Mark | None = None,
) -> tuple[LoadedPlan | None, tuple[Fault, ...]]:
    if reading.plan is None or faults:
        in_order = sorted(
            faults, key=lambda fault: (fault.file not in (None, source), fault.line or 0, fault.column or 0)
        )
        return None, tuple(in_order)
    # A copy and no update in place: the fingerprint covers the files, and the plans of child runs.
    steps = children.named_in(reading.plan.steps)
    plan = Plan.model_validate(dict(reading.plan) | {"files": capture.plan_files(), "steps": steps})
    return LoadedPlan(plan, reading.content, capture.paths, source, marks, children.brought), ()


def read_document(file: Path) -> bytes:
    """Return a document's bytes. NotFound, or UsageError for what cannot be one."""
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_DOCUMENT_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFound(f"There is no plan file {str(file)!r} (looked in {Path.cwd()}).", path=str(file)) from error
    except IsADirectoryError as error:
        told = "a folder without a workflow.yaml: name the plan file in it"
        raise UsageError(f"{str(file)!r} is {told}.", path=str(file)) from error
    except OSError as error:
        raise UsageError(f"The plan file {str(file)!r} cannot be read: {error.strerror}.", path=str(file)) from error
    if len(data) > MAX_DOCUMENT_BYTES:
        raise UsageError(f"The plan file {str(file)!r} is larger than {MAX_DOCUMENT_BYTES} bytes.", path=str(file))
    return data


def decode_document(data: bytes, file: str) -> tuple[str | None, tuple[Fault, ...]]:
    """Return the text of a document, or the fault of one that is no UTF-8."""
    try:
        return data.decode("utf-8-sig"), ()
    except UnicodeDecodeError as error:
        before = data[: error.start]
        line, column = before.count(b"\n") + 1, error.start - before.rfind(b"\n")
        return None, (Fault("bad_encoding", "the file is not UTF-8 from here on", file=file, line=line, column=column),)


def _is_json(file: Path, text: str) -> bool:
    match file.suffix.lower():
        case ".json":
            return True
        case ".yaml" | ".yml":
            return False
        case _:
            return text.lstrip().startswith("{")


def _placed(fault: Fault, marks: Mark, file: str) -> Fault:
    mark = marks.nearest(fault.path)
    return replace(fault, file=file, line=mark.line, column=mark.column)
