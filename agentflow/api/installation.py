"""What is beside the runs: gates that wait, workers, queues, limits, budgets."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from agentflow.api.caller import Json, Project, Viewer
from agentflow.api.gates_page import gates_page
from agentflow.api.intake import Route
from agentflow.api.paging import Cursor, Limit

router = APIRouter(tags=["installation"], route_class=Route)


@router.get("/gates")
def gates(
    caller: Viewer,
    project: Project = None,
    mine: Annotated[bool, Query(description="Only those that this key may approve and has not.")] = False,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Json:
    """List the gates that wait for a decision, the oldest first."""
    return gates_page(caller.flow.gates(project=caller.project(project), mine=mine), limit, cursor)


@router.get("/workers")
def workers(caller: Viewer) -> Json:
    """List the workers: what they serve, when they last took a message, what they run."""
    return caller.flow.workers(project=caller.key.project).as_json()


@router.get("/queues")
def queues(caller: Viewer) -> Json:
    """List the queues: what waits in them, and who takes from them."""
    return caller.flow.queues().as_json()


@router.get("/limits")
def limits(
    caller: Viewer, key: Annotated[str | None, Query(description="Only of this key or endpoint.")] = None
) -> Json:
    """Tell the limits in use: rates, concurrencies and circuit breakers."""
    return caller.flow.limits(key, project=caller.key.project).as_json()


@router.get("/budgets")
def budgets(
    caller: Viewer,
    project: Project = None,
    directive: Annotated[str | None, Query(description="PROJECT/NAME of a directive, instead of a project.")] = None,
    day: Annotated[bool, Query(description="Only those of today.")] = False,
    ledger: Annotated[bool, Query(description="Beside them what Redis has.")] = False,
) -> Json:
    """Tell how the configured budgets stand, or those of one project or directive."""
    if directive is None:
        project = caller.project(project)
    elif "/" in directive:
        caller.project(directive.partition("/")[0])
    report = caller.flow.budget(project=project, directive=directive, is_today=day, has_ledger=ledger)
    return report.as_json()
