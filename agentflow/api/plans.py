"""Stored plans: push, list, look; and judging a plan without storing it."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from fastapi.responses import JSONResponse

from agentflow.api.bodies import Push
from agentflow.api.caller import Caller, Json, Operator, Project, Viewer
from agentflow.api.intake import Route
from agentflow.api.once import Once
from agentflow.api.paging import Cursor, Limit, page
from agentflow.client import LoadedPlan
from agentflow.client.documents import opened_document
from agentflow.domain.graph import Graph
from agentflow.domain.plan_picture import plan_to_mermaid
from agentflow.domain.plan_schema import plan_schema
from agentflow.storage.plans import PlanVersion

router = APIRouter(tags=["plans"], route_class=Route)
Stored = Annotated[str, Path(description="NAME, the newest version, or NAME@VERSION.", examples=["triage@2"])]


@router.get("/plans")
def plans(
    caller: Viewer,
    project: Project = None,
    name: Annotated[str | None, Query(description="Only plans of this name.")] = None,
    limit: Limit = 100,
    cursor: Cursor = None,
) -> Json:
    """List the versions of the stored plans, by project and name, the newest first."""
    found, following = page(caller.flow.stored_plans(project=caller.project(project), name=name), _place, limit, cursor)
    listed = [each.as_json() for each in found]
    return {"schema": "agentflow.stored-plans/1", "plans": listed, "next_cursor": following}


def _place(version: PlanVersion) -> tuple[str, str, int]:
    return version.project, version.name, -version.version


@router.post("/plans", status_code=HTTPStatus.CREATED)
def push(caller: Operator, once: Once, body: Push, request: Request) -> Response:
    """Store a plan as the next version of its name: 201; 200 where the newest one is that plan already."""
    return once(lambda: _pushed(caller, body, request))


def _pushed(caller: Caller, body: Push, request: Request) -> Response:
    with opened_document(body.plan, body.files, caller.key.project) as loaded:
        pushed = caller.flow.push(loaded, project=caller.project(body.project))
    names = ("project", "name", "version", "fingerprint", "is_new")
    answer = {"schema": "agentflow.push/1"} | {name: getattr(pushed, name) for name in names}
    where = request.url_for("show_plan", plan=f"{pushed.name}@{pushed.version}").path
    status = HTTPStatus.CREATED if pushed.is_new else HTTPStatus.OK
    return JSONResponse(answer, status, {"Location": where})


@router.post("/plans/check")
def check_plan(caller: Viewer, body: Push) -> Json:
    """Judge a plan without storing it: 422 with every fault at once, else what it is."""
    with opened_document(body.plan, body.files, caller.key.project) as loaded:
        return _shown(loaded)


@router.get("/plans/{plan}")
def show_plan(caller: Viewer, plan: Stored, project: Project = None) -> Json:
    """Show a stored plan: needs resolved, content replaced by its hash."""
    return _shown(caller.flow.stored_plan(plan, project=caller.project(project)))


@router.get("/plans/{plan}/graph")
def graph(caller: Viewer, plan: Stored, project: Project = None) -> Json:
    """Tell the graph of a stored plan, also as a Mermaid flowchart."""
    stored = caller.flow.stored_plan(plan, project=caller.project(project)).plan
    return {
        "schema": "agentflow.graph/1",
        "needs": {step.id: list(step.needs) for step in stored.steps},
        "levels": [list(level) for level in Graph(stored).levels],
        "mermaid": plan_to_mermaid(stored),
    }


@router.get("/plan-schema")
def schema(caller: Viewer) -> Json:
    """Tell the JSON Schema of plans."""
    return plan_schema()


def _shown(loaded: LoadedPlan) -> Json:
    document = loaded.plan.model_dump(mode="json", exclude_none=True)
    return {"schema": "agentflow.plan/1", "fingerprint": loaded.plan.fingerprint, "plan": document}
