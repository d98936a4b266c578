"""Child plans: which plans the child runs of a run will run, decided once, when the run above all of them is submitted.

A plan in a file came along with its parent. A name of a stored plan is looked up here and means the same version for
the whole tree of runs from then on, also where a child's own child runs name it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from agentflow.domain.action import RunAction
from agentflow.domain.error import ContentError
from agentflow.domain.fault import Fault
from agentflow.domain.ids import RunId
from agentflow.domain.plan import Plan, Step
from agentflow.domain.plan_check import check_available
from agentflow.domain.run_document import check_given, stored_name
from agentflow.domain.wording import did_you_mean, listing
from agentflow.engine.context import EngineContext
from agentflow.engine.inputs import plan_owner, read_input
from agentflow.executors.base import known_actions
from agentflow.storage import plans

Path = tuple[str | int, ...]
ReadDocument = Callable[[str], bytes]
"""Reads the document of a plan in a file by its fingerprint."""


@dataclass(frozen=True, slots=True)
class ChildPlan:
    """The plan of a child run. ``owner`` has what it brings along in the store: a run, or a stored plan."""

    plan: Plan
    owner: RunId | str


@dataclass(frozen=True, slots=True)
class _Todo:
    """A plan whose child runs are to be looked at: from which step of the root it is run."""

    plan: Plan
    documents: ReadDocument
    place: Path | None = None
    step: str | None = None


def resolve_plans(
    context: EngineContext, project: str, plan: Plan, documents: ReadDocument
) -> tuple[dict[str, Any], tuple[Fault, ...]]:
    """Return the stored plans that the child runs of ``plan`` name, at any depth, and every fault of their naming.

    ``{name as written: {version, fingerprint}}``. ``documents`` reads what came along with ``plan``.
    """
    found: dict[str, Any] = {}
    faults: list[Fault] = []
    seen: set[str] = set()
    work = [_Todo(plan, documents)]
    while work:
        todo = work.pop()
        for path, step, action in child_runs_of(todo.plan):
            place, key = (todo.place, todo.step) if todo.place else (path, step.id)
            if action.fingerprint is not None:
                document = todo.documents(action.fingerprint)
                child: _Todo | None = _Todo(Plan.from_stored(document), todo.documents, place, key)
            else:
                child = _look_up(context, project, action, place, key, found, faults)
            if child is None:
                continue
            if todo.place is None or action.fingerprint is None:
                faults += check_given(child.plan, action.vars, place, key)
            if child.plan.fingerprint not in seen:
                seen.add(child.plan.fingerprint)
                work.append(child)
    return found, tuple(faults)


def child_runs_of(plan: Plan) -> Iterator[tuple[Path, Step, RunAction]]:
    """Every child run of a plan, with the path to it in the document."""
    work: list[tuple[Path, Step]] = [(("steps", index), step) for index, step in enumerate(plan.steps)]
    while work:
        path, step = work.pop(0)
        if isinstance(step.action, RunAction):
            yield (*path, "run"), step, step.action
        if step.foreach is not None:
            work += [((*path, "steps", index), inner) for index, inner in enumerate(step.foreach.steps)]


def _look_up(
    context: EngineContext,
    project: str,
    action: RunAction,
    place: Path,
    step: str | None,
    found: dict[str, Any],
    faults: list[Fault],
) -> _Todo | None:
    name, version = stored_name(action.plan) or (action.plan, None)
    with context.database.transaction() as tx:
        stored = _find(tx, project, name, version)
        if isinstance(stored, str):
            faults.append(Fault("unknown_plan", stored, (*place, "plan"), step))
            return None
        found[action.plan] = {"version": stored.version, "fingerprint": stored.fingerprint}
        plan = context.plans.get(tx, stored.fingerprint).plan
    for fault in check_available(plan, known_actions()):
        faults.append(Fault(fault.code, f"{action.plan}: {fault.message}", place, step))
    owner = plan_owner(stored.fingerprint)
    return _Todo(plan, lambda sha256: read_input(context, owner, sha256), place, step)


def _find(tx: Connection, project: str, name: str, version: int | None) -> plans.PlanVersion | str:
    """The version that is meant, or the words for that there is none."""
    versions = plans.read_versions(tx, project, name)
    for each in versions:
        if version in (None, each.version):
            return each
    if versions:
        known = listing([str(each.version) for each in versions])
        return f"the stored plan {name!r} has no version {version}; it has {known}"
    names = dict.fromkeys(each.name for each in plans.read_versions(tx) if each.project == project)
    hint = did_you_mean(name, names)
    return f"no plan is stored as {name!r} in project {project}: {hint}; a file is named as ./{name}.yaml"


def open_child(
    context: EngineContext, run_id: RunId, action: RunAction, child_plans: Mapping[str, Any]
) -> ChildPlan | None:
    """Open the plan that a step of ``run_id`` runs; None where nothing says which that is.

    ContentError when the document of a plan in a file is gone.
    """
    if action.fingerprint is not None:
        return ChildPlan(Plan.from_stored(read_input(context, run_id, action.fingerprint)), run_id)
    chosen = child_plans.get(action.plan)
    if chosen is None:
        return None
    with context.database.transaction() as tx:
        plan = context.plans.get(tx, chosen["fingerprint"]).plan
    return ChildPlan(plan, plan_owner(plan.fingerprint))


def documents_in(brought: Mapping[str, Any]) -> ReadDocument:
    """Read documents from what a plan brought along."""

    def read(sha256: str) -> bytes:
        what = brought.get(sha256)
        if what is None:
            raise ContentError(f"The plan {sha256[:12]} of a child run did not come along")
        return what if isinstance(what, bytes) else bytes(what.read_bytes())

    return read
