"""Streams of events to one listener each: what he has missed first, then what happens, until it is over.

Owns the form on the wire (server-sent events) and when a stream ends: with its run, with its key, with the server, or
when the listener does not read. Each block with an id moves the place from which he goes on, also one without data.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

from sse_starlette import EventSourceResponse
from sse_starlette.sse import SendTimeoutError
from starlette.types import Receive, Scope, Send

from agentflow.api.live_hub import Hub, Told, Wish
from agentflow.domain.api_key import ApiKey
from agentflow.domain.state import FINAL_RUN_STATES
from agentflow.telemetry import get_logger

log = get_logger(__name__)

KEEP_ALIVE_SECONDS = 15.0
RETRY_MILLISECONDS = 1000
SLOW_SECONDS = 30.0
"""How long a listener may take nothing before he is cut off. He comes back with the last id that he got."""
PIECE_BYTES = 256 * 1024
_GRACE_SECONDS = 2.0
_FINAL = frozenset(state.value for state in FINAL_RUN_STATES)

RUN_ENDED, KEY_ENDED, SERVER_ENDS = "run_ended", "key_ended", "server_ends"


class EventStream(EventSourceResponse):
    """An answer that goes on. Ends by itself when the server does."""

    def __init__(self, content: AsyncIterator[bytes], hub: Hub) -> None:
        super().__init__(
            content,
            ping=0,
            send_timeout=SLOW_SECONDS,
            shutdown_event=hub.closing,
            shutdown_grace_period=_GRACE_SECONDS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, for as long as the listener takes it."""
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            log.info("listener_cut_off", path=scope["path"])


def first_block(cursor: object) -> bytes:
    """Tell how soon to come back, and from where, should nothing else come."""
    return f"retry: {RETRY_MILLISECONDS}\nid: {cursor}\n\n".encode()


def keep_alive(cursor: object) -> bytes:
    """A sign of life that also moves the place on, past what the listener did not wish for."""
    return f": keep-alive\nid: {cursor}\n\n".encode()


def last_block(why: str, cursor: object) -> bytes:
    """Tell why a stream ends."""
    return f"event: end\nid: {cursor}\ndata: {json.dumps({'why': why})}\n\n".encode()


def why_over(hub: Hub, key: ApiKey) -> str | None:
    """Why every stream with that key ends now, if it does."""
    if hub.closing.is_set():
        return SERVER_ENDS
    return None if hub.is_open(key) else KEY_ENDED


async def events_to(hub: Hub, key: ApiKey, wish: Wish, after: int | None, ended_at: int | None) -> AsyncIterator[bytes]:
    """Tell a listener the events that he wishes for, from ``after`` on, or from now on; of all, also the figures.

    ``ended_at`` is the last event of a run that had ended when he came.
    """
    is_over, shown = ended_at is not None and (after or 0) >= ended_at, b""
    async with hub.attended(key, wish):
        while (cursor := hub.position if after is None else after) is None and why_over(hub, key) is None:
            await hub.changed(hub.serial, KEEP_ALIVE_SECONDS)
        cursor = cursor or 0
        yield first_block(cursor)
        while (why := why_over(hub, key)) is None:
            serial = hub.serial
            fresh, cursor = await hub.above(cursor, wish)
            is_over = over_after(fresh, before=is_over)
            for piece in in_pieces([told.body for told in fresh]):
                yield piece
            if (kpi := hub.kpi_for(wish)) is not shown:
                shown = kpi
                yield kpi
            if hub.has_told(cursor) and is_over and wish.run:
                why = RUN_ENDED
                break
            if not hub.has_more(cursor) and not await hub.changed(serial, KEEP_ALIVE_SECONDS):
                yield keep_alive(cursor)
        yield last_block(why, cursor)


def in_pieces(bodies: list[bytes]) -> Iterator[bytes]:
    """Join what goes out together, not all of it at once: a slow listener holds a copy of what he does not take."""
    start = size = 0
    for end, body in enumerate(bodies, 1):
        size += len(body)
        if size >= PIECE_BYTES or end == len(bodies):
            yield b"".join(bodies[start:end])
            start, size = end, 0


def over_after(fresh: list[Told], *, before: bool) -> bool:
    """Whether a run has ended after some more of its events; it may also have been taken up again."""
    for told in fresh:
        moved: Any = told.fed.event.moved.get("run")
        if moved:
            before = moved[1] in _FINAL
    return before
