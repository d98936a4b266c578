"""Runs: submit, list, look, and everything that is read of one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from hashlib import sha256
from http import HTTPStatus
from typing import Annotated, Any, BinaryIO, Literal

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from starlette.responses import HTMLResponse

from agentflow.api.bodies import Submission
from agentflow.api.caller import Caller, Json, Operator, Project, Viewer
from agentflow.api.events_page import events_page
from agentflow.api.paging import Cursor, Limit
from agentflow.client import Run
from agentflow.client.documents import opened_document
from agentflow.domain.ids import RunId

router = APIRouter(prefix="/runs", tags=["runs"])
Step = Annotated[str | None, Query(description="Only of this step.")]
IdempotencyKey = Annotated[str | None, Header(description="The same key with the same submission is the same run.")]
_BYTES, _CHUNK_BYTES = "application/octet-stream", 1 << 16
_REPORTS = {"html": HTMLResponse, "md": PlainTextResponse}


@router.post("", status_code=HTTPStatus.CREATED)
def submit(caller: Operator, body: Submission, request: Request, idempotency_key: IdempotencyKey = None) -> Response:
    """Submit a plan. 201 with the run's address; 200 where the idempotency key has its run already."""
    run = _submitted(caller, body, idempotency_key)
    status = HTTPStatus.OK if run.existing else HTTPStatus.CREATED
    answer = run.summary.as_json() | {"existing": run.existing}
    return JSONResponse(answer, status, {"Location": str(request.url_for("show", run=run.id).path)})


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
    with opened_document(body.plan, body.files) as loaded:
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
    page = caller.flow.runs(
        state=state,
        project=caller.project(project),
        name=name,
        limit=limit,
        cursor=cursor,
        children=children,
        parent=None if parent is None else caller.run(parent),
    )
    runs = [run.summary.as_json() for run in page]
    return JSONResponse({"schema": "agentflow.runs/1", "runs": runs, "next_cursor": page.next_cursor})


@router.get("/{run}")
def show(caller: Viewer, run: str, if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """Show a run with its steps and attempts. Its ETag changes with everything that is shown but the clock."""
    shown = caller.run(run).as_json()
    headers = {"ETag": _tag(shown)}
    if if_none_match is not None and headers["ETag"] in if_none_match:
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    return JSONResponse(shown, headers=headers)


def _tag(shown: Json) -> str:
    """Name what is shown of a run, without the times that pass while nothing happens."""
    usage = {name: value for name, value in shown["usage"].items() if name != "active_seconds"}
    budget = [line for line in shown["budget"] if line["budget"] != "active_time"]
    lasting = json.dumps(shown | {"usage": usage, "budget": budget, "tree_usage": None}, sort_keys=True)
    return f'"{sha256(lasting.encode()).hexdigest()[:32]}"'


@router.get("/{run}/steps/{step}")
def show_step(caller: Viewer, run: str, step: str) -> Json:
    """Show one step of a run with its attempts."""
    return caller.run(run).step(step).as_json()


@router.get("/{run}/why")
def why(caller: Viewer, run: str, step: Step = None) -> Json:
    """Tell the one reason for which a run, or a step of it, is where it is."""
    return caller.flow.why(caller.run(run), step).as_json()


@router.get("/{run}/events")
def events(caller: Viewer, run: str, limit: Limit = 1000, cursor: Cursor = None) -> Json:
    """List what happened to a run, in the order of writing."""
    return events_page(caller, RunId(caller.run(run).uuid), limit, cursor)


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
def gates(caller: Viewer, run: str) -> Json:
    """List all gates that a run opened, decided ones too."""
    found = caller.flow.gate_history(caller.run(run))
    return {"schema": "agentflow.gates/1", "gates": [gate.as_json() for gate in found]}


@router.get("/{run}/artifacts")
def artifacts(caller: Viewer, run: str, step: Step = None) -> Json:
    """List what the last attempts of a run kept."""
    kept = caller.run(run).kept(step)
    found = [{"step": each.step, "attempt": each.attempt, **each.as_json()} for each in kept]
    return {"schema": "agentflow.artifacts/1", "run": caller.run(run).id, "artifacts": found}


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
