"""Jobs: what takes longer than a request may, begun by other routes and looked at here."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any
from uuid import UUID

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from agentflow.api.caller import Admin, Caller, Json, whole
from agentflow.api.intake import Route
from agentflow.client.conflicts import telling_conflicts
from agentflow.domain.error import NotFound
from agentflow.domain.job import JobKind
from agentflow.engine.job_worker import Job, JobWorker, Work
from agentflow.storage import jobs

router = APIRouter(prefix="/jobs", tags=["jobs"], route_class=Route)


def began(request: Request, caller: Caller, kind: JobKind, work: Work) -> Response:
    """Begin a job in the name of a caller, and answer with its address. InvalidTransition where one is under way."""
    worker: JobWorker = request.app.state.jobs

    def in_words(job: Job) -> Mapping[str, Any]:
        with telling_conflicts():
            return work(job)

    begun = worker.begin(caller.flow.context, kind, caller.flow.settings.actor, in_words)
    where = request.url_for("show_job", job=str(begun.id)).path
    return JSONResponse(begun.as_json(), HTTPStatus.ACCEPTED, {"Location": where})


@router.get("")
def list_jobs(caller: Admin) -> Json:
    """List the prunings and checks that were asked for over HTTP, the newest first; some hundred are kept."""
    with whole(caller).flow.context.database.transaction() as tx:
        found = jobs.view(tx)
    return {"schema": "agentflow.jobs/1", "jobs": [each.as_json() for each in found]}


@router.get("/{job}")
def show_job(caller: Admin, job: UUID) -> Json:
    """Show a job: how far it has come, and its result or problem once it has ended."""
    with whole(caller).flow.context.database.transaction() as tx:
        found = jobs.view(tx, job_id=job)
    if not found:
        raise NotFound(f"There is no job {job}; of those that ended {jobs.KEPT_JOBS} are kept.", job=str(job))
    return found[0].as_json()
