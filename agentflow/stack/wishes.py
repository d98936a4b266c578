"""What signals and the end of children ask of the main thread, as something that it can wait for.

Owns the handlers while the block lasts. A stop asked for while ``interrupts`` is on raises KeyboardInterrupt where the
thread is; otherwise it is counted, and ``wait`` returns. Only the main thread may use it.
"""

from __future__ import annotations

import select
import signal
import socket
from collections.abc import Iterable
from types import FrameType, TracebackType
from typing import Any, Self

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Wishes:
    """``stops`` counts how often a stop was asked for."""

    def __init__(self) -> None:
        self.stops = 0
        self.interrupts = True
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        self._bell, self._ringer = socket.socketpair()
        self._bell.setblocking(False)
        self._ringer.setblocking(False)
        self._wakeup_before = signal.set_wakeup_fd(self._ringer.fileno(), warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, self._on_stop) for number in STOP_SIGNALS}
        # With the default action nothing would ring when a child ends.
        self._before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        self._bell.close()
        self._ringer.close()

    def ask_to_stop(self) -> None:
        """Ask as a signal would, from the main thread."""
        self.stops += 1

    def wait(self, seconds: float, sockets: Iterable[socket.socket] = ()) -> list[socket.socket]:
        """Wait for a signal, for the end of a child or for something to read; returns the sockets that have it."""
        readable, _, _ = select.select([self._bell, *sockets], (), (), seconds)
        if self._bell in readable:
            readable.remove(self._bell)
            self._bell.recv(4096)
        return readable

    def _on_stop(self, number: int, frame: FrameType | None) -> None:
        self.stops += 1
        if self.interrupts:
            self.interrupts = False  # once: what cleans up after it is not interrupted again
            raise KeyboardInterrupt
