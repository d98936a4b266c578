"""Upkeep: maintenance of everything, and taking old runs out. It concerns all projects, so a key of one has no part."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import JSONResponse

from agentflow.api import bodies
from agentflow.api.caller import Admin, Caller, Json, Viewer, whole
from agentflow.api.intake import Route
from agentflow.api.jobs import began
from agentflow.api.once import Once
from agentflow.client.retention import PrunedTotals, begin_pruning, prunable_json
from agentflow.domain.job import JobKind
from agentflow.engine.job_worker import Job

router = APIRouter(tags=["upkeep"], route_class=Route)
SCHEMA = "agentflow.maintenance/1"


@router.get("/maintenance")
def maintenance(caller: Viewer) -> Json:
    """Tell whether everything is under maintenance, since when, by whom and why, and how many attempts still run."""
    flow = whole(caller).flow
    standing = flow.maintenance()
    told = None if standing is None else standing.as_json()
    return {"schema": SCHEMA, "stands": standing is not None, "reason": told, "running": flow.count_running()}


@router.post("/maintenance/pause", status_code=HTTPStatus.ACCEPTED)
def pause_everything(caller: Admin, body: bodies.Pause, request: Request) -> Response:
    """Put everything under maintenance: each run is paused, and what is submitted is accepted and rests."""
    begun = whole(caller).flow.pause_all(now=body.now, why=body.why)
    answer = {"is_new": begun.is_new, "paused": begun.paused, "running": begun.running}
    where = {"Location": request.url_for("maintenance").path}
    return JSONResponse({"schema": SCHEMA, "stands": True} | answer, HTTPStatus.ACCEPTED, where)


@router.post("/maintenance/resume")
def resume_everything(caller: Admin) -> Json:
    """End the maintenance: each run goes on that it paused."""
    ended = whole(caller).flow.resume_all()
    return {"schema": SCHEMA, "stands": False, "is_new": ended.is_new, "resumed": ended.resumed}


@router.get("/retention")
def prunable(
    caller: Viewer, older_than: Annotated[str, Query(description="How long ago they ended.", examples=["30d"])]
) -> Json:
    """Tell how much a pruning would take out."""
    return dict(prunable_json(whole(caller).flow.prunable(older_than)))


@router.post("/retention/prune", status_code=HTTPStatus.ACCEPTED)
def prune(caller: Admin, once: Once, body: bodies.Pruning, request: Request) -> Response:
    """Begin to take out runs that ended long ago, with their artifacts; tombstones and what they used stay.

    Location is the job that does it. With ``dry_run`` only tell what would go: 200.
    """
    flow = whole(caller).flow
    if body.dry_run:
        return JSONResponse(prunable_json(flow.prunable(body.older_than, limit=body.limit)))
    return once(lambda: _pruning(caller, body, request))


def _pruning(caller: Caller, body: bodies.Pruning, request: Request) -> Response:
    batches = begin_pruning(caller.flow, body.older_than, body.limit)

    def take_out(job: Job) -> Json:
        totals, found = PrunedTotals(), caller.flow.prunable(body.older_than, limit=body.limit).runs
        for batch in batches:
            totals.add(batch)
            job.tell(totals.runs, max(found, totals.runs))
        return totals.as_json()

    return began(request, caller, JobKind.PRUNE, take_out)
