"""Live: what happens while it happens, as streams of server-sent events.

A stream is given to who asks for it, with ``Accept: text/event-stream``; the same address of a run has its events as a
list otherwise. Nothing of an event is missed and none comes twice: see docs/decisions/0028.
"""

from __future__ import annotations

from functools import partial
from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Header, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.routing import Match
from starlette.types import Scope

from agentflow.api.caller import Caller, Project, Viewer
from agentflow.api.live_hub import Hub, Wish
from agentflow.api.live_logs import logs_of, read_page
from agentflow.api.live_streams import EventStream, events_to
from agentflow.client import Run
from agentflow.client.run_logs import STREAMS, LogReader
from agentflow.domain.error import UsageError
from agentflow.domain.ids import RunId
from agentflow.storage import feeds

STREAM = "text/event-stream"
LastEventId = Annotated[str | None, Header(description="The id that came last: the stream goes on behind it.")]
After = Annotated[
    int | None, Query(ge=0, le=feeds.LAST_ID, description="The same as Last-Event-ID, which goes over it.")
]

LogPlace = Annotated[
    str | None, Query(description="The id of a piece of the logs, or `next` of a page.", max_length=65536)
]
Step = Annotated[str | None, Query(description="Only of this step.")]


def wants_stream(headers: Headers) -> bool:
    """Whether a request asks for a stream by name."""
    return any(each.partition(";")[0].strip().lower() == STREAM for each in headers.get("accept", "").split(","))


class _StreamRoute(APIRoute):
    """A route for who asks for a stream; to others it is not there, and the next one is looked for."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        found, inner = super().matches(scope)
        is_asked = scope["type"] == "http" and wants_stream(Headers(scope=scope))
        return (found, inner) if is_asked else (Match.NONE, {})


router = APIRouter(tags=["live"])
streams = APIRouter(tags=["live"], route_class=_StreamRoute)


@router.get("/events")
async def events(
    caller: Viewer, request: Request, project: Project = None, after: After = None, last_event_id: LastEventId = None
) -> Response:
    """Tell everything that happens, and every few seconds the figures (`event: kpi`); from now on, or behind an id.

    Ask with `Accept: text/event-stream`.
    """
    if not wants_stream(request.headers):
        raise HTTPException(HTTPStatus.NOT_ACCEPTABLE, f"This is a stream: ask with Accept: {STREAM}.")
    hub = hub_of(request, caller)
    wish = Wish(project=caller.project(project))
    return EventStream(events_to(hub, caller.key, wish, _place(after, last_event_id), None), hub)


@streams.get("/runs/{run}/events", include_in_schema=False)
async def run_stream(
    caller: Viewer, request: Request, run: str, after: After = None, last_event_id: LastEventId = None
) -> Response:
    """Tell the events of a run until it has ended. 204 where there is nothing to come: a browser stays away then."""
    hub = hub_of(request, caller)
    found, ended_at = await run_in_threadpool(_find, caller, run)
    place = _place(after, last_event_id) or 0
    if ended_at is not None and place >= ended_at:
        return Response(status_code=HTTPStatus.NO_CONTENT)
    return EventStream(events_to(hub, caller.key, Wish(run=RunId(found.uuid)), place, ended_at), hub)


@router.get("/runs/{run}/logs")
async def logs(
    caller: Viewer,
    request: Request,
    run: str,
    step: Step = None,
    stream: Literal["stdout", "stderr"] | None = None,
    after: LogPlace = None,
    last_event_id: LastEventId = None,
) -> Response:
    """Tell what the commands of a run write, while they write it; as a page of it without `text/event-stream`.

    A stream ends with the run. Each piece says where in its stream it begins; what looks like a credential is redacted.
    """
    hub = hub_of(request, caller) if wants_stream(request.headers) else None
    place = last_event_id or after or ""
    found, ended_at = await run_in_threadpool(_find, caller, run)
    reader = await run_in_threadpool(_reader, found, step, stream, place)
    if hub is None:
        return JSONResponse(await run_in_threadpool(partial(read_page, found, reader, has_ended=ended_at is not None)))
    if ended_at is not None and reader.resumes_at >= ended_at:
        return Response(status_code=HTTPStatus.NO_CONTENT)
    return EventStream(logs_of(hub, caller.key, RunId(found.uuid), reader, has_ended=ended_at is not None), hub)


def _reader(run: Run, step: str | None, stream: str | None, place: str) -> LogReader:
    if step is not None:
        run.step(step)
    return run.log_reader(step, STREAMS if stream is None else (stream,), place)


def _find(caller: Caller, run: str) -> tuple[Run, int | None]:
    found = caller.run(run)
    with caller.flow.context.database.transaction() as tx:
        return found, feeds.read_end(tx, RunId(found.uuid))


def _place(after: int | None, last_event_id: str | None) -> int | None:
    """Return the id behind which to go on. UsageError for what is none."""
    if not last_event_id:
        return after
    if not (last_event_id.isascii() and last_event_id.isdecimal()) or int(last_event_id) > feeds.LAST_ID:
        raise UsageError("Last-Event-ID is the id of an event: a number, as it came.")
    return int(last_event_id)


def hub_of(request: Request, caller: Caller) -> Hub:
    """Return the hub of this process, if there is room for one more listener. Raises TooManyRequests."""
    hub: Hub = request.app.state.hub
    hub.check_room(caller.key)
    return hub
