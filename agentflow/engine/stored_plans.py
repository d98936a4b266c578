"""Stored plans: a plan is pushed under its name, as a version, and opened again where its files never were.

What it brings along lies in the content store under an owner of its own, apart from all runs: pruning a run takes
nothing from it. Versions never change; the same plan is pushed again as the version that it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from agentflow.domain.error import ContentError, NotFound
from agentflow.domain.plan import Plan
from agentflow.domain.wording import did_you_mean
from agentflow.engine.context import EngineContext
from agentflow.engine.inputs import (
    brought_hashes,
    content_hashes,
    input_address,
    keep_inputs,
    plan_owner,
    read_input,
)
from agentflow.engine.load_plan import LoadedPlan
from agentflow.engine.record import record_outside
from agentflow.storage import installations, plans, runs

NAMED_VERSIONS = 8
"""How many versions an error lists, the newest first."""


@dataclass(frozen=True, slots=True)
class Pushed:
    """What a push came to; ``is_new`` is False when the plan was the newest version of its name before."""

    project: str
    name: str
    version: int
    fingerprint: str
    is_new: bool


@dataclass(frozen=True, slots=True)
class StoredPlan:
    """A version of a stored plan with all that a submit needs: its texts by hash, its files where the store has them.

    The files are only to be read, and soon: the submit that is given them copies them.
    """

    plan: Plan
    content: Mapping[str, bytes]
    files: Mapping[str, Path]
    project: str
    version: int
    brought: Mapping[str, Path]

    @property
    def loaded(self) -> LoadedPlan:
        """The plan as one that was read from a file."""
        source = f"{self.plan.name}@{self.version}"
        return LoadedPlan(self.plan, self.content, self.files, source, brought=dict(self.brought))


def push_plan(context: EngineContext, loaded: LoadedPlan, project: str, actor: str) -> Pushed:
    """Store a plan as the next version of its name in ``project``; as none if it is the newest one already.

    What it brings along is put into the store either way: what got lost there is mended by pushing again.
    """
    plan = loaded.plan
    keep_inputs(context, plan_owner(plan.fingerprint), plan, loaded.content, loaded.files, loaded.brought)
    with context.database.transaction() as tx:
        house = installations.lock(tx)
        runs.insert_plan(tx, plan.fingerprint, plan.name, plan.canonical_json())
        version = plans.add_version(tx, project, plan, actor)
        if version is None:
            newest = plans.read_versions(tx, project, plan.name)[0]
            return Pushed(project, plan.name, newest.version, plan.fingerprint, is_new=False)
        record_outside(
            context,
            tx,
            house,
            actor=actor,
            action="push",
            subject=f"plan:{project}/{plan.name}",
            facts={"version": version, "plan": plan.fingerprint, "steps": len(plan.steps)},
        )
    return Pushed(project, plan.name, version, plan.fingerprint, is_new=True)


def open_stored(context: EngineContext, project: str, name: str, version: int | None = None) -> StoredPlan:
    """Open a version of a stored plan, the newest unless told otherwise.

    NotFound tells which there are; ContentError when what it brings along is not in the store any more.
    """
    with context.database.transaction() as tx:
        versions = plans.read_versions(tx, project, name)
        found = next((each for each in versions if version in (None, each.version)), None)
        if found is None:
            known = versions or plans.read_versions(tx, project)
            raise _not_found(project, name, version, known)
        plan = context.plans.get(tx, found.fingerprint).plan
    try:
        owner, store = plan_owner(found.fingerprint), context.store
        content = {sha256: read_input(context, owner, sha256) for sha256 in content_hashes(plan)}
        brought = {
            sha256: store.local_path(input_address(owner, sha256)) for sha256 in brought_hashes(context, owner, plan)
        }
        files = {file.path: store.local_path(input_address(owner, file.sha256)) for file in plan.files}
    except ContentError as error:
        raise ContentError(
            f"The stored plan {name}@{found.version} cannot be used: {error}. Push the plan again.",
            name=name,
            version=found.version,
        ) from error
    return StoredPlan(plan, content, files, project, found.version, brought)


def _not_found(project: str, name: str, version: int | None, known: list[plans.PlanVersion]) -> NotFound:
    details = {"project": project, "name": name, "version": version}
    ours = [each.version for each in known if (each.project, each.name) == (project, name)]
    if ours:
        listed = ", ".join(map(str, ours[:NAMED_VERSIONS])) + (", ..." if len(ours) > NAMED_VERSIONS else "")
        return NotFound(
            f"The stored plan {name!r} has no version {version}; it has {listed}.", **details, versions=ours
        )
    there = did_you_mean(name, dict.fromkeys(each.name for each in known))
    return NotFound(f"No plan is stored as {name!r} in project {project}: {there}", **details)
