"""Load children: read the plans of child runs that are files beside a plan, each with its own files and children.

Owns that a plan does not contain itself, and what it is given to run: everything that its children bring along, by
hash. How one plan is read is load_plan's, which is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from agentflow.domain.action import RunAction
from agentflow.domain.child_run import MAX_DEPTH
from agentflow.domain.error import NotFound, UsageError
from agentflow.domain.fault import Fault
from agentflow.domain.plan import Step
from agentflow.domain.plan_document import WrittenRun
from agentflow.domain.run_document import check_given, is_file
from agentflow.domain.wording import shorten

if TYPE_CHECKING:
    from agentflow.engine.load_plan import LoadedPlan

Brought = Mapping[str, bytes | Path]
"""What child plans in files bring along, by SHA-256: their documents, their texts, their files."""
Examine = Callable[[Path, tuple[Path, ...]], "tuple[LoadedPlan | None, tuple[Fault, ...]]"]
"""Reads the plan at a path, below the plans that lead to it."""


@dataclass
class Children:
    """The child plans of one plan by the path that it writes, and the faults of them."""

    plans: dict[str, LoadedPlan] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)

    @property
    def brought(self) -> dict[str, bytes | Path]:
        """Everything that the children bring along, their own children's too."""
        found: dict[str, bytes | Path] = {}
        for child in self.plans.values():
            found |= child.brought
            found |= child.content
            found |= {file.sha256: child.files[file.path] for file in child.plan.files}
            found[child.plan.fingerprint] = child.plan.canonical_json()
        return found

    def named_in(self, steps: Sequence[Step]) -> tuple[Step, ...]:
        """Return ``steps`` with the fingerprint of its plan in each child run of a file."""
        return tuple(self._named(step) for step in steps)

    def _named(self, step: Step) -> Step:
        if isinstance(step.action, RunAction) and (child := self.plans.get(step.action.plan)) is not None:
            action = step.action.model_copy(update={"fingerprint": child.plan.fingerprint})
            step = step.model_copy(update={"action": action})
        if step.foreach is not None and step.foreach.steps:
            foreach = step.foreach.model_copy(update={"steps": self.named_in(step.foreach.steps)})
            step = step.model_copy(update={"foreach": foreach})
        return step


def load_children(
    folder: Path,
    written: Sequence[WrittenRun],
    examine: Examine,
    *,
    above: tuple[Path, ...] = (),
    given: Mapping[str, LoadedPlan] | None = None,
) -> Children:
    """Read the plans in files that ``written`` name, relative to ``folder``; ``given`` are at hand already.

    ``above`` are the plans that this one is read for, the outermost first, and itself.
    """
    children = Children()
    known = dict(given or {})
    broken: set[str] = set()
    for run in written:
        name = run.action.plan
        if not is_file(name) or name in broken:
            continue
        if name not in known:
            child, faults = _read(folder, run, examine, above)
            children.faults += faults
            if child is None:
                broken.add(name)
                continue
            known[name] = child
        children.plans[name] = known[name]
        children.faults += check_given(known[name].plan, run.action.vars, run.path, run.step)
    return children


def _read(
    folder: Path, run: WrittenRun, examine: Examine, above: tuple[Path, ...]
) -> tuple[LoadedPlan | None, Sequence[Fault]]:
    place, name = (*run.path, "plan"), run.action.plan
    root, path = folder.resolve(), (folder / name).resolve()
    if not path.is_relative_to(root):
        return None, [Fault("bad_path", f"{shorten(name)!r} leads out of the plan's folder", place, run.step)]
    if path in above:
        chain = [each.name for each in (*above[above.index(path) :], path)]
        return None, [Fault("contains_itself", f"the plan would run itself: {' -> '.join(chain)}", place, run.step)]
    if len(above) > MAX_DEPTH:
        return None, [Fault("too_deep", f"child runs go {MAX_DEPTH} deep at most", place, run.step)]
    try:
        child, faults = examine(folder / name, above)
    except (NotFound, UsageError) as error:
        return None, [Fault("bad_file", f"the plan of the child run: {error}", place, run.step)]
    if child is None:
        return None, [_below(fault, run, name) for fault in faults]
    return child, ()


def _below(fault: Fault, run: WrittenRun, name: str) -> Fault:
    """A fault with a place in the child's file keeps it; any other is told at the step that runs the child."""
    if fault.file is not None:
        return fault
    return replace(fault, message=f"{name}: {fault.message}", path=run.path, step=run.step)
