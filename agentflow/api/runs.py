"""Runs: submit, list, look, and everything that is read of one."""

from __future__ import annotations

from collections.abc import Iterator
from http import HTTPStatus
from typing import Annotated, Any, BinaryIO, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import PlainTextResponse, StreamingResponse
from starlette.responses import HTMLResponse

from agentflow.api.answers import QuickJson
from agentflow.api.bodies import Submission
from agentflow.api.caller import Caller, Json, Operator, Project, Viewer
from agentflow.api.declared import TAKEN_BY_STREAMS
from agentflow.api.deeds import created
from agentflow.api.events_page import run_events_page
from agentflow.api.gates_page import gates_page
from agentflow.api.intake import Route
from agentflow.api.paging import Cursor, Limit, page
from agentflow.api.seen import look, names
from agentflow.client import Run
from agentflow.client.documents import opened_document

router = APIRouter(prefix="/runs", tags=["runs"], route_class=Route)
Step = Annotated[str | None, Query(description="Only of this step.")]
IdempotencyKey = Annotated[str | None, Header(description="The same key with the same submission is the same run.")]
_BYTES, _CHUNK_BYTES = "application/octet-stream", 1 << 16
_REPORTS = {"html": HTMLResponse, "md": PlainTextResponse}


@router.post("", status_code=HTTPStatus.CREATED)
def submit(caller: Operator, body: Submission, request: Request, idempotency_key: IdempotencyKey = None) -> Response:
    """Submit a plan. 201 with the run's address; 200 where the idempotency key has its run already."""
    run = _submitted(caller, body, idempotency_key)
    return created(request, run, {"existing": run.existing})


def _submitted(caller: Caller, body: Submission, idempotency_key: str | None) -> Run:
    wanted: dict[str, Any] = {
        "idempotency_key": idempotency_key,
        "budget": body.budget,
        "directive": body.directive,
        "mode": body.mode,
        "plan_hash": body.plan_hash,
    }
    project = caller.project(body.project)
    if isinstance(body.plan, str):
        return caller.flow.submit_stored(body.plan, body.vars, project=project, **wanted)
    with opened_document(body.plan, body.files, caller.key.project) as loaded:
        return caller.flow.submit(loaded, body.vars, project=project, **wanted)


@router.get("")
def find(
    caller: Viewer,
    state: Annotated[str | None, Query(description="Only in this state.")] = None,
    name: Annotated[str | None, Query(description="Only of plans of this name.")] = None,
    project: Project = None,
    parent: Annotated[str | None, Query(description="Only the child runs of this run.")] = None,
    children: Annotated[bool, Query(description="Child runs too.")] = False,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Response:
    """List runs, the newest first."""
    found = caller.flow.runs(
        state=state,
        project=caller.project(project),
        name=name,
        limit=limit,
        cursor=cursor,
        children=children,
        parent=None if parent is None else caller.run(parent),
    )
    runs = [run.summary.as_json() for run in found]
    return QuickJson({"schema": "agentflow.runs/1", "runs": runs, "next_cursor": found.next_cursor})


@router.get("/{run}")
def show(caller: Viewer, run: str, if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """Show a run with its steps and attempts. Its ETag changes with everything that is done to it."""
    found = caller.run_id(run)
    with caller.flow.context.database.autocommit() as tx:
        shown, tag = look(tx, found)
    headers = {"ETag": tag}
    if if_none_match is not None and names(if_none_match, tag, is_weak=True):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return QuickJson(shown, headers=headers)


@router.get("/{run}/steps/{step}")
def show_step(caller: Viewer, run: str, step: str) -> Json:
    """Show one step of a run with its attempts."""
    return caller.run(run).step(step).as_json()


@router.get("/{run}/why")
def why(caller: Viewer, run: str, step: Step = None) -> Json:
    """Tell the one reason for which a run, or a step of it, is where it is."""
    return caller.flow.why(caller.run(run), step, project=caller.key.project).as_json()


@router.get("/{run}/events", openapi_extra=TAKEN_BY_STREAMS)
def events(caller: Viewer, run: str, limit: Limit = 1000, cursor: Cursor = None) -> Json:
    """List what happened to a run, in the order of writing. With `Accept: text/event-stream` also what happens next.

    A stream takes `after` or `Last-Event-ID` instead of `cursor` and `limit`, and ends with the run; 204 where there is
    nothing to come.
    """
    return run_events_page(caller, caller.run(run), limit, cursor)


@router.get("/{run}/report", response_class=Response)
def report(
    caller: Viewer,
    run: str,
    format: Literal["json", "md", "html"] = "json",  # noqa: A002 - the word that users know
) -> Response:
    """Report on a run: what happened, by whom, at what cost; never what was said."""
    text = caller.run(run).report(format)
    kind = _REPORTS.get(format)
    return Response(text, media_type="application/json") if kind is None else kind(text)


@router.get("/{run}/budget")
def budget(caller: Viewer, run: str) -> Json:
    """Tell how the budgets stand that a run stands in."""
    return caller.run(run).budget().as_json()


@router.get("/{run}/gates")
def gates(caller: Viewer, run: str, limit: Limit = 1000, cursor: Cursor = None) -> Json:
    """List all gates that a run opened, decided ones too, in the order of their opening."""
    return gates_page(caller.flow.gate_history(caller.run(run)), limit, cursor)


@router.get("/{run}/artifacts")
def artifacts(caller: Viewer, run: str, step: Step = None, limit: Limit = 1000, cursor: Cursor = None) -> Json:
    """List what all attempts of a run kept, by step, attempt and name."""
    found = caller.run(run)
    kept, following = page(found.kept(step), lambda each: (each.step, each.attempt, each.name), limit, cursor)
    told = [{"step": each.step, "attempt": each.attempt, **each.as_json()} for each in kept]
    return {"schema": "agentflow.artifacts/1", "run": found.id, "artifacts": told, "next_cursor": following}


@router.get("/{run}/artifacts/{name:path}", response_class=StreamingResponse)
def artifact(caller: Viewer, run: str, name: str, step: Step = None, attempt: int | None = None) -> Response:
    """Read an artifact. It is sent as bytes, whatever it is: what a command wrote is not to be shown by a browser."""
    found = caller.run(run)
    wanted = found.find_artifact(name, step, attempt)
    headers = {"Content-Disposition": "attachment", "Content-Length": str(wanted.bytes)}
    return StreamingResponse(_chunks(found.open_artifact(wanted)), media_type=_BYTES, headers=headers)


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk
