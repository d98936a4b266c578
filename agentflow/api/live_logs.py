"""Streams and pages of what the commands of a run write.

Owns how much a page holds, how often files are looked at, and that texts which leave are redacted. Led by the hub's
events: only the files of attempts that run are looked at again, and the database is not.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator

from anyio import to_thread

from agentflow.api.caller import Json
from agentflow.api.live_hub import Hub, Wish
from agentflow.api.live_streams import (
    KEEP_ALIVE_SECONDS,
    RUN_ENDED,
    first_block,
    keep_alive,
    last_block,
    over_after,
    why_over,
)
from agentflow.client import Run
from agentflow.client.run_logs import LogChunk, LogReader
from agentflow.domain.api_key import ApiKey
from agentflow.domain.ids import RunId
from agentflow.storage.view_shapes import EventView
from agentflow.telemetry import redact

CHUNKS_SCHEMA = "agentflow.log-chunks/1"
LOOK_SECONDS = 0.5
PAGE_BYTES = 1 << 20


def written(chunk: LogChunk) -> bytes:
    """Write a piece as a listener gets it."""
    text = json.dumps(chunk.as_json(redact), ensure_ascii=False, separators=(",", ":"))
    return f"event: log\nid: {chunk.cursor}\ndata: {text}\n\n".encode()


async def logs_of(hub: Hub, key: ApiKey, run: RunId, reader: LogReader, *, has_ended: bool) -> AsyncIterator[bytes]:
    """Tell what a run's commands write, until it has ended."""
    wish, at, is_over = Wish(run=run), 0, has_ended
    idle = 0.0
    async with hub.attended(key, wish):
        yield first_block(reader.cursor)
        while (why := why_over(hub, key)) is None:
            serial = hub.serial
            fresh, at = await hub.above(at, wish)
            is_over = over_after(fresh, before=is_over)
            pieces = _pieces(reader, [told.fed.event for told in fresh])
            while block := await to_thread.run_sync(_next_block, pieces, limiter=hub.reading_logs):
                yield block
                idle = 0.0
            if hub.has_told(at) and is_over:
                why = RUN_ENDED
                break
            pause = LOOK_SECONDS if reader.is_reading else KEEP_ALIVE_SECONDS
            if not hub.has_more(at) and not await hub.changed(serial, pause):
                idle += pause
            if idle >= KEEP_ALIVE_SECONDS:
                idle = 0.0
                yield keep_alive(reader.cursor)
        yield last_block(why, reader.cursor)


def read_page(run: Run, reader: LogReader, *, has_ended: bool) -> Json:
    """Read what there is behind the reader's place, up to about a MiB of it."""
    chunks: list[Json] = []
    size, cursor, is_whole = 0, reader.cursor, True
    for chunk in _pieces(reader, run.events() if has_ended else run.settled_events()):
        chunks.append(chunk.as_json(redact))
        size, cursor = size + len(chunk.data), chunk.cursor
        if size >= PAGE_BYTES:
            is_whole = False
            break
    place = reader.cursor if is_whole else cursor
    told = {"schema": CHUNKS_SCHEMA, "run": run.id, "chunks": chunks}
    return told | {"next_cursor": None if is_whole else place, "place": place}


def _next_block(pieces: Iterator[LogChunk]) -> bytes | None:
    """Read and write a piece, in a thread: taking out what looks like a credential holds nobody else up."""
    chunk = next(pieces, None)
    return None if chunk is None else written(chunk)


def _pieces(reader: LogReader, events: Iterator[EventView] | list[EventView]) -> Iterator[LogChunk]:
    for event in events:
        yield from reader.note(event)
    yield from reader.read()
