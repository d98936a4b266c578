"""Live: what happens while it happens, as streams of server-sent events.

A stream is given to who asks for it, with ``Accept: text/event-stream``; the same address of a run has its events as a
list otherwise. Nothing of an event is missed and none comes twice: see docs/decisions/0028.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Annotated, Literal

from fastapi import APIRouter, Header, HTTPException, Query, Request, Response
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.routing import Match
from starlette.types import Scope

from agentflow.api.caller import Caller, Json, Project, Viewer
from agentflow.api.declared import TAKEN_BY_STREAMS
from agentflow.api.head import STREAM, wants_stream
from agentflow.api.intake import Route
from agentflow.api.live_hub import Hub, Wish
from agentflow.api.live_logs import logs_of, read_page
from agentflow.api.live_streams import EventStream, events_to
from agentflow.client import Run
from agentflow.client.run_logs import STREAMS, LogReader, read_cursor
from agentflow.domain.error import UsageError
from agentflow.domain.ids import RunId
from agentflow.storage import feeds
from agentflow.storage.database import ConflictingWrite

_LONGEST_PLACE = 48 * 1024
"""Some 800 streams at once; an address is read up to 64 KiB, and this stands in it escaped."""
LastEventId = Annotated[str | None, Header(description="The id that came last: the stream goes on behind it.")]
_BEHIND = "The same as Last-Event-ID, which goes over it."
After = Annotated[int | None, Query(ge=0, le=feeds.LAST_ID, description=_BEHIND)]

LogPlace = Annotated[str | None, Query(description="The same as Last-Event-ID.", max_length=_LONGEST_PLACE)]
LogCursor = Annotated[
    str | None, Query(description="next_cursor or place of the page before.", max_length=_LONGEST_PLACE)
]
Output = Literal["stdout", "stderr"] | None
Step = Annotated[str | None, Query(description="Only of this step.")]


class _StreamRoute(Route):
    """A route for who asks for a stream; to others it is not there, and the next one is looked for."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        found, inner = super().matches(scope)
        is_asked = scope["type"] == "http" and wants_stream(Headers(scope=scope))
        return (found, inner) if is_asked else (Match.NONE, {})


router = APIRouter(tags=["live"], route_class=Route)
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
    place = _place(after, last_event_id)
    if place is not None:
        await run_in_threadpool(_check_place, caller, place)
    return EventStream(events_to(hub, caller.key, wish, place, None), hub)


@streams.get("/runs/{run}/events", include_in_schema=False)
async def run_stream(
    caller: Viewer, request: Request, run: str, after: After = None, last_event_id: LastEventId = None
) -> Response:
    """Tell the events of a run until it has ended. 204 where there is nothing to come: a browser stays away then."""
    hub = hub_of(request, caller)
    place = _place(after, last_event_id) or 0
    found, ended_at = await run_in_threadpool(_find, caller, run, place)
    if ended_at is not None and place >= ended_at:
        return Response(status_code=HTTPStatus.NO_CONTENT)
    return EventStream(events_to(hub, caller.key, Wish(run=RunId(found.uuid)), place, ended_at), hub)


@router.get("/runs/{run}/logs", openapi_extra=TAKEN_BY_STREAMS)
def logs(caller: Viewer, run: str, step: Step = None, stream: Output = None, cursor: LogCursor = None) -> Json:
    """Tell what the commands of a run wrote; with `Accept: text/event-stream` also what they write from now on.

    Each piece says where in its stream it begins; what looks like a credential is redacted. A stream takes `after` or
    `Last-Event-ID` instead of `cursor`, and ends with the run.
    """
    found, ended_at = _find(caller, run)
    return read_page(found, _reader(found, step, stream, cursor or ""), has_ended=ended_at is not None)


@streams.get("/runs/{run}/logs", include_in_schema=False)
async def log_stream(
    caller: Viewer,
    request: Request,
    run: str,
    step: Step = None,
    stream: Output = None,
    after: LogPlace = None,
    last_event_id: LastEventId = None,
) -> Response:
    """Tell what the commands of a run write, while they write it. 204 where there is nothing to come."""
    hub = hub_of(request, caller)
    place = last_event_id or after or ""
    found, ended_at = await run_in_threadpool(_find, caller, run, read_cursor(place)[0])
    reader = await run_in_threadpool(_reader, found, step, stream, place)
    if ended_at is not None and reader.resumes_at >= ended_at:
        return Response(status_code=HTTPStatus.NO_CONTENT)
    return EventStream(logs_of(hub, caller.key, RunId(found.uuid), reader, has_ended=ended_at is not None), hub)


def _reader(run: Run, step: str | None, stream: str | None, place: str) -> LogReader:
    if step is not None:
        run.step(step)
    return run.log_reader(step, STREAMS if stream is None else (stream,), place)


def _find(caller: Caller, run: str, place: int = 0) -> tuple[Run, int | None]:
    found = caller.run(run)
    if place:
        _check_place(caller, place)
    with caller.flow.context.database.transaction() as tx:
        return found, feeds.read_end(tx, RunId(found.uuid))


def _place(after: int | None, last_event_id: str | None) -> int | None:
    """Return the id behind which to go on. UsageError for what is none."""
    if not last_event_id:
        return after
    if not (last_event_id.isascii() and last_event_id.isdecimal()) or int(last_event_id) > feeds.LAST_ID:
        raise UsageError("Last-Event-ID is the id of an event: a number, as it came.")
    return int(last_event_id)


def _check_place(caller: Caller, place: int) -> None:
    """Raise UsageError for a place above every event: who waits there would miss all up to it."""
    try:
        with caller.flow.context.database.autocommit() as tx:
            newest = feeds.read_newest(tx)
    except ConflictingWrite:  # given up: the stream tries its own reads again
        return
    if place > newest:
        raise UsageError(
            f"There is no event {place} yet, so nothing goes on behind it. If agentflow was restored from a backup, "
            "look anew at what there is, and begin without Last-Event-ID and after."
        )


def hub_of(request: Request, caller: Caller) -> Hub:
    """Return the hub of this process, if there is room for one more listener. Raises TooManyRequests."""
    hub: Hub = request.app.state.hub
    hub.check_room(caller.key)
    return hub
