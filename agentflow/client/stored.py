"""The client's verbs on stored plans: push one under its name, list the versions, open one.

Owns also how a caller's plan (built, loaded, or a path) becomes a loaded one, and whose project it then is.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path

from agentflow.client.checks import checked_actor, checked_name, read_stored_name
from agentflow.client.conflicts import trying_again
from agentflow.client.connection import Connected
from agentflow.client.plan import Plan
from agentflow.domain.error import (
    ConfigurationError,
    ContentError,
    NotFound,
    PlanRejected,
    ServersUnreachable,
    UsageError,
)
from agentflow.domain.plan_check import check_available
from agentflow.engine.foresee_children import Children
from agentflow.engine.load_plan import LoadedPlan
from agentflow.engine.stored_plans import Pushed, open_stored, push_plan
from agentflow.executors.base import known_actions
from agentflow.settings import Settings
from agentflow.storage import plans
from agentflow.storage.plans import PlanVersion


class StoredPlans(Connected):
    """What knows the stored plans of an installation."""

    @trying_again
    def push(self, plan: Plan | LoadedPlan | str | Path, *, project: str | None = None) -> Pushed:
        """Store a plan, with all that it brings along, as the next version of its name.

        The plan that is the newest version already is not stored again (``is_new``). The project is the one given,
        else the plan's, else the settings'. Required vars are asked for when it is submitted. Raises PlanRejected,
        UsageError, ContentError, ConfigurationError and ServersUnreachable.
        """
        actor = checked_actor(self.settings.actor)
        loaded = loaded_of(plan)
        if faults := loaded.placed(check_available(loaded.plan, known_actions())):
            raise PlanRejected(faults)
        return push_plan(self._checked_context(), loaded, project_of(self.settings, loaded, project), actor)

    def stored_plans(self, *, project: str | None = None, name: str | None = None) -> list[PlanVersion]:
        """Return the versions of the stored plans by project and name, the newest first."""
        with self._reading() as tx:
            return plans.read_versions(tx, project, name)

    def stored_plan(self, name: str, *, project: str | None = None) -> LoadedPlan:
        """Open a stored plan, ``triage`` or ``triage@2``, of the given project or else the settings'.

        NotFound tells the names and versions that there are; ContentError when what it brought along is gone.
        """
        name, version = read_stored_name(name)
        where = checked_name("project", project or self.settings.project)
        return open_stored(self._checked_context(), where, name, version).loaded

    def _children_at_hand(self, project: str) -> Children:
        """The plans of child runs as far as they can be told now: those that are stored only if somebody answers."""

        def opened(name: str, version: int | None) -> LoadedPlan | None:
            try:
                return open_stored(self._checked_context(), project, name, version).loaded
            except (NotFound, ContentError, ConfigurationError, ServersUnreachable):
                return None

        return Children(opened)


def loaded_of(plan: Plan | LoadedPlan | str | Path) -> LoadedPlan:
    """Return a plan that was built, loaded, or is named by its path. Raises PlanRejected, NotFound and UsageError."""
    match plan:
        case Plan():
            return plan.check()
        case LoadedPlan():
            return plan
        case str() | PathLike():
            return Plan.load(plan)
        case _:
            raise UsageError(
                f"A plan is one that was built or loaded, or a path; not {type(plan).__name__}. Build it as a Plan, or "
                "write the document into a file."
            )


def project_of(settings: Settings, loaded: LoadedPlan, given: str | None) -> str:
    """Return whose a plan is: the project given, else the plan's, else the settings'."""
    project = given or (loaded.plan.project if loaded.plan.project != "default" else settings.project)
    return checked_name("project", project)
