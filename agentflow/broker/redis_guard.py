"""A guard against messages that cannot be read, which would end a worker of Celery 5.7.0.

kombu 5.7.0 reads a message in the midst of the worker's event loop. What is no JSON there, or no message, raises what
nobody catches: "Unrecoverable error", and the worker is gone. Whoever may write to this Redis may write anything, and
another program may use the list by mistake. Such a message is dropped here, and logged by the kind of its fault alone.
To be dropped when upstream is mended; a test holds the need for it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kombu.transport import redis as transport

from agentflow.telemetry import get_logger

log = get_logger(__name__)

#: What a message of another shape raises, in kombu or in Celery's look at its headers.
UNREADABLE = (ValueError, TypeError, AttributeError, LookupError, RecursionError)

Read = Callable[..., Any]
_originals: dict[str, Read] = {name: getattr(transport.Channel, name) for name in ("_brpop_read", "_receive")}


def _guarded(original: Read, client_name: str) -> Read:
    def read(channel: Any, **options: Any) -> Any:
        if getattr(channel, client_name).connection is None:  # closed meanwhile: that is no message's fault
            return original(channel, **options)
        before = dict(channel.qos._delivered)  # noqa: SLF001 - kombu has no other name for it
        try:
            return original(channel, **options)
        except UNREADABLE as error:
            log.error("message_not_readable", error=type(error).__name__)  # noqa: TRY400 - its frames may quote it
            for tag, message in list(channel.qos._delivered.items()):  # noqa: SLF001 - as above
                if before.get(tag) is not message:  # unless it is let go, a slot waits for its end for ever
                    channel.qos.ack(tag)
            return True

    return read


def install() -> None:
    """Put the guard in place, once per process."""
    transport.Channel._brpop_read = _guarded(_originals["_brpop_read"], "client")  # noqa: SLF001 - what is guarded
    transport.Channel._receive = _guarded(_originals["_receive"], "subclient")  # noqa: SLF001 - what is guarded


def remove() -> None:
    """Take the guard away; for the test that shows what it is for."""
    for name, original in _originals.items():
        setattr(transport.Channel, name, original)
