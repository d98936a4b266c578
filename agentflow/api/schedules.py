"""Schedules: keep when stored plans run by themselves, look at what became of it, fire, replace, stop and forget."""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Request, Response
from fastapi.responses import JSONResponse

from agentflow.api import bodies
from agentflow.api.caller import Caller, Json, Operator, Project, Viewer
from agentflow.api.deeds import located
from agentflow.api.intake import Route
from agentflow.api.once import Once
from agentflow.api.paging import Cursor, Limit, page
from agentflow.api.seen import AsSeen, Seen, schedule_tag
from agentflow.client.schedule_report import ScheduleReport
from agentflow.domain.error import UsageError
from agentflow.storage.view_shapes import moment

router = APIRouter(prefix="/schedules", tags=["schedules"], route_class=Route)
IfNoneMatch = Annotated[Literal["*"] | None, Header(description="*: only where there is none of this name; else 412.")]


@router.get("")
def schedules(caller: Viewer, project: Project = None, limit: Limit = 100, cursor: Cursor = None) -> Json:
    """List the schedules by project and name, with their next due times."""
    found, following = page(caller.flow.schedules.list(project=caller.project(project)), _place, limit, cursor)
    listed = [each.as_json() for each in found]
    return {"schema": "agentflow.schedules/1", "schedules": listed, "next_cursor": following}


def _place(report: ScheduleReport) -> tuple[str, str]:
    return report.schedule.project, report.name


@router.post("", status_code=HTTPStatus.CREATED)
def create_schedule(caller: Operator, once: Once, body: bodies.NamedSchedule, request: Request) -> Response:
    """Keep when a stored plan runs; with ``dry_run`` only examine it: 200."""
    return once(lambda: _created(caller, body, request))


def _created(caller: Caller, body: bodies.NamedSchedule, request: Request) -> Response:
    wanted = body.model_dump(exclude={"name", "plan", "project", "dry_run"})
    project = caller.project(body.project)
    made = caller.flow.schedules.create(body.name, body.plan, project=project, is_dry=body.dry_run, **wanted)
    if body.dry_run:
        return JSONResponse(made.as_json())
    where = request.url_for("show_schedule", name=body.name).path
    return JSONResponse(made.as_json(), HTTPStatus.CREATED, {"Location": where})


@router.get("/{name}")
def show_schedule(caller: Viewer, name: str, project: Project = None) -> Response:
    """Show a schedule with its next due times. Its ETag names what is kept of it."""
    shown = caller.flow.schedules.get(name, project=caller.project(project)).as_json()
    return JSONResponse(shown, headers={"ETag": schedule_tag(shown)})


@router.put("/{name}")
def replace_schedule(
    caller: Operator,
    name: str,
    seen: AsSeen,
    body: bodies.Schedule,
    request: Request,
    project: Project = None,
    if_none_match: IfNoneMatch = None,
) -> Response:
    """Put a schedule in the place of that of this name, or keep it as a new one: 201.

    What is not said is as in a new one, whatever stood there. Where the times change, the new ones begin from now, and
    what waits for the old ones is skipped. Its history stays.
    """
    if project is not None and body.project not in (None, project):
        raise UsageError(f"The query names project {project}, the body {body.project}: name one.")
    owner = caller.project(body.project or project) or caller.flow.settings.project
    wanted = body.model_dump(exclude={"plan", "project"})
    with seen.of_place(owner, name, is_free=if_none_match is not None):
        made = caller.flow.schedules.create(name, body.plan, project=owner, is_replacing=True, **wanted)
    shown = made.as_json()
    headers = {"ETag": schedule_tag(shown)}
    if not made.is_new:
        return JSONResponse(shown, headers=headers)
    where = {"Location": request.url_for("show_schedule", name=name).path}
    return JSONResponse(shown, HTTPStatus.CREATED, headers | where)


@router.get("/{name}/firings")
def firings(caller: Viewer, name: str, project: Project = None, limit: Limit = 50, cursor: Cursor = None) -> Json:
    """Tell what became of the due times of a schedule, the latest first."""
    project = caller.project(project)
    return caller.flow.schedules.history(name, limit=limit, cursor=cursor, project=project).as_json()


@router.post("/{name}/pause")
def disable(caller: Operator, name: str, seen: AsSeen, project: Project = None) -> Json:
    """Stop a schedule. What waits is skipped; nothing of this time is caught up with."""
    project = caller.project(project)
    with seen.of_schedule(caller.flow.schedules.get(name, project=project)):
        skipped = caller.flow.schedules.pause(name, project=project)
    return _acted(name, "pause", is_changed=skipped is not None, skipped=skipped or 0)


@router.post("/{name}/resume")
def enable(caller: Operator, name: str, seen: AsSeen, project: Project = None) -> Json:
    """Let a schedule fire from its next due time on."""
    project = caller.project(project)
    with seen.of_schedule(caller.flow.schedules.get(name, project=project)):
        return _acted(name, "resume", is_changed=caller.flow.schedules.resume(name, project=project))


@router.post("/{name}/run-now", status_code=HTTPStatus.ACCEPTED)
def run_now(
    caller: Operator, name: str, seen: AsSeen, once: Once, request: Request, project: Project = None
) -> Response:
    """Fire a schedule at once, due or not; its overlap holds. Location is the run, where it began at once."""
    project = caller.project(project)
    return once(lambda: _fired(caller, name, seen, project, request))


def _fired(caller: Caller, name: str, seen: Seen, project: str | None, request: Request) -> Response:
    with seen.of_schedule(caller.flow.schedules.get(name, project=project)):
        firing = caller.flow.schedules.run_now(name, project=project)
    where = {} if firing.run_id is None else located(request, str(firing.run_id))
    answer = {"schema": "agentflow.firing/1", "name": name, **firing.as_json()}
    return JSONResponse(answer, HTTPStatus.ACCEPTED, where)


@router.post("/{name}/backfill", status_code=HTTPStatus.ACCEPTED)
def backfill(
    caller: Operator,
    name: str,
    seen: AsSeen,
    once: Once,
    body: bodies.Backfill,
    request: Request,
    project: Project = None,
) -> Response:
    """Queue the due times of the past that have no run; they run one by one. With ``dry_run`` only tell which: 200."""
    project = caller.project(project)
    return once(lambda: _backfilled(caller, name, seen, body, project, request))


def _backfilled(
    caller: Caller, name: str, seen: Seen, body: bodies.Backfill, project: str | None, request: Request
) -> Response:
    with seen.of_schedule(caller.flow.schedules.get(name, project=project)):
        filled = caller.flow.schedules.backfill(name, body.since, body.until, project=project, is_dry=body.dry_run)
    answer = {
        "schema": "agentflow.backfill/1",
        "name": name,
        "is_dry": filled.is_dry,
        "queued": [moment(due) for due in filled.queued],
        "existing": [moment(due) for due in filled.existing],
    }
    if body.dry_run:
        return JSONResponse(answer)
    return JSONResponse(answer, HTTPStatus.ACCEPTED, {"Location": request.url_for("firings", name=name).path})


@router.delete("/{name}")
def delete_schedule(caller: Operator, name: str, seen: AsSeen, project: Project = None) -> Json:
    """Forget a schedule and what became of its due times; its runs stay."""
    project = caller.project(project)
    with seen.of_schedule(caller.flow.schedules.get(name, project=project)):
        caller.flow.schedules.delete(name, project=project)
    return _acted(name, "delete", is_changed=True)


def _acted(name: str, verb: str, *, is_changed: bool, skipped: int = 0) -> Json:
    head = {"schema": "agentflow.schedule-acted/1", "name": name, "verb": verb}
    return head | {"is_changed": is_changed, "skipped": skipped}
