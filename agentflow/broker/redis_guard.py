"""Guards against what would end a worker of Celery 5.7.0, or keep it from its messages.

kombu 5.7.0 reads a message in the midst of the worker's event loop. What is no JSON there, or no message, raises what
nobody catches: "Unrecoverable error", and the worker is gone. Whoever may write to this Redis may write anything, and
another program may use the list by mistake. Such a message is dropped here, and logged by the kind and the place of
its fault alone.

A worker that connects writes down where it listens, and a full Redis refuses that. It would connect again and again and
take none of the messages that fill it. agentflow's messages go straight to their lists: nobody needs to look that up.

To be dropped when upstream is mended; tests hold the need for both.
"""

from __future__ import annotations

from collections.abc import Callable
from traceback import walk_tb
from typing import Any

from kombu.transport import redis as transport
from redis.exceptions import OutOfMemoryError

from agentflow.telemetry import get_logger

log = get_logger(__name__)

#: What a message of another shape raises, in kombu or in Celery's look at its headers.
UNREADABLE = (ValueError, TypeError, AttributeError, LookupError, RecursionError)

STRAIGHT = "agentflow_straight"
"""Among the transport options it marks connections whose messages go straight to their lists; others bind or fail."""

Method = Callable[..., Any]
_NAMES = ("_brpop_read", "_receive", "_queue_bind")
_originals: dict[str, Method] = {name: getattr(transport.Channel, name) for name in _NAMES}


def _reading(original: Method, client_name: str) -> Method:
    def read(channel: Any, **options: Any) -> Any:
        if getattr(channel, client_name).connection is None:  # closed meanwhile: that is no message's fault
            return original(channel, **options)
        before = dict(channel.qos._delivered)  # noqa: SLF001 - kombu has no other name for it
        try:
            return original(channel, **options)
        except UNREADABLE as error:
            # Its frames may quote it. The place tells a message that is none from one over which Celery failed.
            log.error("message_not_readable", error=type(error).__name__, at=_place_of(error))  # noqa: TRY400 - its words quote
            for tag, message in list(channel.qos._delivered.items()):  # noqa: SLF001 - as above
                if before.get(tag) is not message:  # unless it is let go, a slot waits for its end for ever
                    channel.qos.ack(tag)
            return True

    return read


def _place_of(error: BaseException) -> str:
    """The function that raised it, by module and name."""
    *_, (frame, _) = walk_tb(error.__traceback__)
    return f"{frame.f_globals.get('__name__')}.{frame.f_code.co_name}"


def _bind(channel: Any, exchange: str, *binding: Any) -> None:
    try:
        _originals["_queue_bind"](channel, exchange, *binding)
    except OutOfMemoryError:
        if not channel.connection.client.transport_options.get(STRAIGHT):
            raise
        log.warning("binding_not_noted", exchange=exchange)


def install() -> None:
    """Put the guards in place, once per process."""
    transport.Channel._brpop_read = _reading(_originals["_brpop_read"], "client")  # noqa: SLF001 - what is guarded
    transport.Channel._receive = _reading(_originals["_receive"], "subclient")  # noqa: SLF001 - what is guarded
    transport.Channel._queue_bind = _bind  # noqa: SLF001 - what is guarded


def remove() -> None:
    """Take the guards away; for the test that shows what they are for."""
    for name, original in _originals.items():
        setattr(transport.Channel, name, original)
