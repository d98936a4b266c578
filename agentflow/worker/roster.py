"""The worker's row, as the dispatcher process keeps it: it hears what the main process tells and writes it at times.

Owns when to write: at once what changed, else every few seconds, and again later what Postgres could not take. A
dispatcher whose owner tells nothing, such as beat's, writes nothing.
"""

from __future__ import annotations

import json
import threading
import time
from dataclasses import dataclass, replace
from typing import Any

from agentflow import __version__
from agentflow.domain.error import ServersUnreachable
from agentflow.engine.context import EngineContext
from agentflow.engine.note_worker import note_end, note_worker
from agentflow.storage.database import ConflictingWrite, UnwritableValue
from agentflow.storage.workers import WorkerTold
from agentflow.telemetry import get_logger
from agentflow.worker.alive import show_life
from agentflow.worker.footprint import footprint

log = get_logger(__name__)

WRITE_SECONDS = 5.0
END_SECONDS = 3.0
"""What a stop waits for the last write."""


@dataclass(frozen=True, slots=True)
class _Heard:
    told: WorkerTold
    has_ended: bool
    at: float

    def as_of(self, now: float) -> WorkerTold:
        """What was told, with the ages that it has by now."""
        passed, ago = now - self.at, self.told.consumed_seconds_ago
        return replace(
            self.told,
            up_seconds=self.told.up_seconds + passed,
            consumed_seconds_ago=None if ago is None else ago + passed,
        )


class Roster:
    """Keeps the row of the worker ``name``; one thread hears, another writes, so that no outage delays the hearing."""

    def __init__(self, context: EngineContext, name: str) -> None:
        self._context, self._name = context, name
        self._changed = threading.Condition()
        self._heard: _Heard | None = None
        self._is_closing = False
        self._written: WorkerTold | None = None
        self._written_at = 0.0
        self._cpu_seconds = 0.0
        self._thread = threading.Thread(target=self._keep, name="roster", daemon=True)

    def start(self) -> None:
        """Begin to write; what was told before is not lost."""
        self._thread.start()

    def hear(self, line: str) -> None:
        """Take a line; one that cannot be read is left out."""
        try:
            heard = self._read(json.loads(line))
        except (ValueError, TypeError, KeyError):
            log.warning("worker_line_not_readable", length=len(line))
            return
        with self._changed:
            self._heard = heard
            self._changed.notify()

    def close(self) -> None:
        """Write what is left, the end above all, and stop; not for longer than a few seconds."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join(END_SECONDS)

    def _read(self, told: dict[str, Any]) -> _Heard:
        has_ended = bool(told.pop("has_ended"))
        told["queues"] = tuple(map(str, told["queues"]))
        return _Heard(WorkerTold(name=self._name, version=__version__, **told), has_ended, time.monotonic())

    def _keep(self) -> None:
        is_closing = False
        while not is_closing:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closing or self._heard is not None)
                heard, is_closing = self._heard, self._is_closing
                self._heard = None
            if heard is not None and self._is_due(heard):
                self._write(heard)

    def _is_due(self, heard: _Heard) -> bool:
        if heard.has_ended or self._written is None or time.monotonic() - self._written_at >= WRITE_SECONDS:
            return True
        return _lasting(heard.told) != _lasting(self._written)

    def _write(self, heard: _Heard) -> None:
        now = time.monotonic()
        try:
            note_worker(self._context, self._measured(heard.as_of(now)), is_first=self._written is None)
            if heard.has_ended:
                note_end(self._context, heard.told)
        except (ServersUnreachable, ConflictingWrite, UnwritableValue) as error:
            log.warning("worker_not_noted", error=type(error).__name__)  # the next line tries again
        else:
            self._written, self._written_at = heard.told, now
            show_life(self._context.settings)

    def _measured(self, told: WorkerTold) -> WorkerTold:
        found = footprint(told.pid)
        if found is None:
            return told
        # A process that ends between two reads is seen in neither for a moment; what was used is never less.
        self._cpu_seconds = max(self._cpu_seconds, found.cpu_seconds)
        return replace(told, cpu_seconds=self._cpu_seconds, resident_bytes=found.resident_bytes)


def _lasting(told: WorkerTold) -> tuple[object, ...]:
    """What is written at once when it changes."""
    return told.pid, told.pool, told.concurrency, told.queues, told.is_draining
