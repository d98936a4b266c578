"""The audit: what was done outside of runs, whether anything was altered, and what was signed."""

from __future__ import annotations

from functools import partial
from http import HTTPStatus

from fastapi import APIRouter, Request, Response

from agentflow.api.audit_report import REPORT_SCHEMA, told, verify_in_job
from agentflow.api.caller import Admin, Json, Viewer, whole
from agentflow.api.events_page import events_page
from agentflow.api.intake import Route
from agentflow.api.jobs import began
from agentflow.api.once import Once
from agentflow.api.paging import Cursor, Limit, cursor_of, number_of
from agentflow.domain.error import NotFound
from agentflow.domain.ids import INSTALLATION_CHAIN, RunId
from agentflow.domain.job import JobKind
from agentflow.engine.sign import find_key
from agentflow.engine.verify import verify_run
from agentflow.storage import checkpoints

router = APIRouter(tags=["audit"], route_class=Route)


@router.get("/audit/events")
def installation_events(caller: Viewer, limit: Limit = 100, cursor: Cursor = None) -> Json:
    """List what was done outside of runs: keys, schedules, stored plans, maintenance, prunings."""
    return events_page(whole(caller), INSTALLATION_CHAIN, limit, cursor)


@router.get("/runs/{run}/verify")
def verify_one(caller: Viewer, run: str) -> Json:
    """Check that nothing of the audit of a run was altered, removed, added or cut."""
    report = verify_run(caller.flow.context, RunId(caller.run(run).uuid))
    return {"schema": REPORT_SCHEMA, "is_intact": report.is_intact, "runs": [told(report)]}


@router.post("/audit/verify", status_code=HTTPStatus.ACCEPTED)
def verify_everything(caller: Admin, once: Once, request: Request) -> Response:
    """Begin to check the audit of every run, that of the installation, and the signed checkpoints.

    It reads all of them. Location is the job that does it.
    """
    context = whole(caller).flow.context
    return once(lambda: began(request, caller, JobKind.VERIFY, partial(verify_in_job, context)))


@router.get("/audit/checkpoints")
def signed_checkpoints(caller: Viewer, limit: Limit = 100, cursor: Cursor = None) -> Json:
    """List the checkpoints that were signed: their numbers and hashes, to be noted elsewhere."""
    with whole(caller).flow.context.database.transaction() as tx:
        noted = checkpoints.read_all(tx)
    after = number_of(cursor)
    found = sorted(number for number in noted if number > after)
    shown = [{"number": number, "sha256": noted[number]} for number in found[:limit]]
    following = cursor_of((found[limit - 1],)) if len(found) > limit else None
    return {"schema": "agentflow.checkpoints/1", "checkpoints": shown, "next_cursor": following}


@router.get("/audit/key")
def audit_key(caller: Viewer) -> Json:
    """Tell the public key of the signed checkpoints, for whoever verifies them elsewhere."""
    found = find_key(caller.flow.settings)
    if found is None:
        raise NotFound("There is no key of checkpoints here; it is where the dispatcher runs that signs.")
    return {"schema": "agentflow.audit-key/1", "id": found.id, "public_key": found.public}
