"""What a pool child was about to say when the connection to Redis was lost: read on, not read anew.

Celery's main process reads what children write piece by piece, and remembers a begun message in its event loop only.
Where a connection is lost the loop starts afresh, and takes the middle of such a message for the next one's head: the
worker ends with an UnpicklingError, or waits for ever. Owns the memory that outlives the loop.
"""

from __future__ import annotations

from collections.abc import Generator
from inspect import GEN_CLOSED, GEN_SUSPENDED, getgeneratorstate
from typing import Any

from celery.concurrency.asynpool import AsynPool, ResultHandler

Reading = Generator[None, None, None]


class WholeResults(ResultHandler):
    """Reads on where a message was begun, as long as the child that writes it is the same."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._begun: dict[int, tuple[Any, Reading]] = {}

    def _recv_message(self, add_reader: Any, fd: int, callback: Any) -> Reading:
        """Return what reads the next message, or the rest of the one that was begun."""
        child = self.fileno_to_outq.get(fd)
        writer, reading = self._begun.get(fd, (None, None))
        if reading is None or writer is not child or getgeneratorstate(reading) == GEN_CLOSED:
            reading = super()._recv_message(add_reader, fd, callback)
            self._begun[fd] = child, reading
        return reading

    def _finish_partial_read(self, fd: int, proc: Any) -> bool:
        """Let what was begun be finished when the pool stops, also while no loop turns: then no reader is there.

        Returns whether the child can finish it no more.
        """
        writer, reading = self._begun.get(fd, (None, None))
        if reading is not None and writer is proc and getgeneratorstate(reading) == GEN_SUSPENDED:
            self._hub.add_reader(fd, reading)
        is_over: bool = super()._finish_partial_read(fd, proc)
        return is_over


def install() -> None:
    """Let pools that are made from now on read whole messages."""
    AsynPool.ResultHandler = WholeResults
