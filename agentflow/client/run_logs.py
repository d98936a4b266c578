"""What the commands of a run write, as they write it: read from the content store, led by the run's events.

Owns the cursor: up to which event the attempts are known, and how far those were read that ran then. An attempt is
read from its claim on; the event of its end comes after its files were kept, so what is read up to there is whole.
Reads whole lines of a command that runs, so that what is masked in lines is not cut in two.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from agentflow.content.store import Address, ContentStore
from agentflow.domain.error import ContentError, UsageError
from agentflow.domain.ids import RunId, StepKey
from agentflow.storage.view_shapes import EventView
from agentflow.telemetry import get_logger

log = get_logger(__name__)

STREAMS = ("stdout", "stderr")
CHUNK_BYTES = 64 * 1024
_PLACE = re.compile(r"(?P<step>[^/;:]+)/(?P<attempt>\d{1,9})/(?P<stream>stdout|stderr):(?P<offset>\d{1,18})", re.ASCII)
Attempt = tuple[StepKey, int]


@dataclass(frozen=True, slots=True)
class LogChunk:
    """A piece of a stream; ``offset`` is its first byte's place in it, ``cursor`` from where to go on behind it."""

    step: StepKey
    attempt: int
    stream: str
    offset: int
    data: bytes = field(repr=False)
    cursor: str

    @property
    def text(self) -> str:
        """The piece as text; what is no UTF-8 is replaced."""
        return self.data.decode("utf-8", "replace")

    def as_json(self, clean: Callable[[str], str]) -> dict[str, Any]:
        """The piece as a stream of the API has it, its text as ``clean`` leaves it."""
        where = {"step": self.step, "attempt": self.attempt, "stream": self.stream, "offset": self.offset}
        return where | {"bytes": len(self.data), "text": clean(self.text)}


class LogReader:
    """Reads the streams of one run; ``cursor`` is where another reader of it had come to."""

    def __init__(
        self,
        store: ContentStore,
        run_id: RunId,
        reused: Callable[[], Iterable[Attempt]],
        *,
        step: str | None = None,
        streams: Collection[str] = STREAMS,
        cursor: str = "",
    ) -> None:
        self._store = store
        self._run_id = str(run_id)
        self._reused = reused
        self._step = step
        self._streams = [name for name in STREAMS if name in streams]
        self.resumes_at, self._resumed = read_cursor(cursor)
        self._open: dict[Attempt, dict[str, int]] = {}
        self._at = self.resumes_at
        self._noted = 0

    @property
    def is_reading(self) -> bool:
        """Whether an attempt runs that may write more."""
        return bool(self._open)

    @property
    def cursor(self) -> str:
        """From where to go on."""
        places = (
            f"{step}/{number}/{stream}:{offset}"
            for (step, number), offsets in self._open.items()
            for stream, offset in offsets.items()
            if offset
        )
        return ";".join((str(self._at), *places))

    def note(self, event: EventView) -> Iterator[LogChunk]:
        """Take in the next event of the run; yields the rest of an attempt that it ended."""
        number = event.facts.get("attempt")
        if event.action == "fork":
            for reused in self._reused():
                yield from self._end(event.id, reused)
        elif event.step is not None and isinstance(number, int) and self._step in (None, event.step):
            if event.action == "claim":
                self._begin(event.id, (event.step, number))
            elif event.verdict is not None:
                yield from self._end(event.id, (event.step, number))
        self._noted, self._at = event.id, max(event.id, self._at)

    def read(self) -> Iterator[LogChunk]:
        """Yield what the running attempts have written meanwhile."""
        for attempt in list(self._open) if self._noted >= self.resumes_at else ():
            yield from self._read(attempt, is_over=False)

    def _begin(self, event_id: int, attempt: Attempt) -> None:
        resumed = self._resumed.get(attempt, {}) if event_id <= self.resumes_at else {}
        self._open[attempt] = {stream: resumed.get(stream, 0) for stream in self._streams}

    def _end(self, event_id: int, attempt: Attempt) -> Iterator[LogChunk]:
        if self._step not in (None, attempt[0]):
            return
        if event_id > self.resumes_at:
            if attempt not in self._open:
                self._begin(event_id, attempt)
            yield from self._read(attempt, is_over=True)
        self._open.pop(attempt, None)

    def _read(self, attempt: Attempt, *, is_over: bool) -> Iterator[LogChunk]:
        step, number = attempt
        offsets = self._open[attempt]
        for stream in offsets:
            address = Address(self._run_id, stream, step, number)
            while data := self._piece(address, offsets[stream], is_over=is_over):
                offset, offsets[stream] = offsets[stream], offsets[stream] + len(data)
                yield LogChunk(step, number, stream, offset, data, self.cursor)

    def _piece(self, address: Address, at: int, *, is_over: bool) -> bytes:
        try:
            data = self._store.read_part(address, at, CHUNK_BYTES)
        except ContentError as error:
            log.warning("log_not_read", error=str(error))
            return b""
        is_full = len(data) == CHUNK_BYTES
        if is_over and not is_full:
            return data
        lines = data.rfind(b"\n") + 1
        if lines:
            return data[:lines]
        return _whole_characters(data) if is_full else b""


def _whole_characters(data: bytes) -> bytes:
    """Leave away the beginning of a character whose rest is not there."""
    for back in range(1, min(4, len(data))):
        if data[-back] >= 0xC0:
            return data[:-back]
        if data[-back] < 0x80:
            return data
    return data


def read_cursor(text: str) -> tuple[int, dict[Attempt, dict[str, int]]]:
    """Read a cursor: the event, and how far each stream was read. UsageError for what is none."""
    if not text:
        return 0, {}
    event_id, *places = text.split(";")
    found = [_PLACE.fullmatch(place) for place in places]
    if not (event_id.isascii() and event_id.isdecimal() and len(event_id) < 19) or None in found:
        raise UsageError("The place in the logs is the id of a piece of them, as it came.")
    offsets: dict[Attempt, dict[str, int]] = {}
    for place in found:
        if place is not None:
            attempt = (StepKey(place["step"]), int(place["attempt"]))
            offsets.setdefault(attempt, {})[place["stream"]] = int(place["offset"])
    return int(event_id), offsets
