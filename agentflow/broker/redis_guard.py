"""A guard against the crash of Celery 5.7.0 workers when Redis goes away.

When the connection breaks with a BRPOP outstanding, ``Channel.close`` of kombu 5.7.0 raises from ``_brpop_read`` half
way; Celery then closes a second time, on a channel whose connection has no client any more, and the worker ends with
"Unrecoverable error: AttributeError". Reading the outstanding reply before closing, and forgetting it when the
connection is gone, lets the first close finish. To be dropped when upstream is mended; tests hold the need for it.
"""

from __future__ import annotations

from queue import Empty
from typing import Any

from kombu.transport import redis as transport

_original_close = transport.Channel.close


def _close(channel: Any) -> Any:
    if channel._in_poll:  # noqa: SLF001 - the guard is about kombu's own state
        try:
            channel._brpop_read()  # noqa: SLF001 - as above
        except Empty:
            pass  # the reply was "nothing yet": now it is read
        except channel.connection_errors:
            channel._in_poll = None  # noqa: SLF001 - as above
    return _original_close(channel)


def install() -> None:
    """Put the guard in place, once per process."""
    transport.Channel.close = _close


def remove() -> None:
    """Take the guard away; for the test that shows what it is for."""
    transport.Channel.close = _original_close
