"""HEAD: what a GET would answer, without the body.

Owns that no route need know of it. A stream has none, since it has no end: who asks for one is told of the page that
there is at its address.
"""

from __future__ import annotations

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

STREAM = "text/event-stream"
_ANSWERED = ("/api/", "/livez")
"""The beginnings of addresses that are answered; what else there is takes care of its methods itself."""


class _ToldError(Exception):
    """The headers went out; the rest of the answer is not wanted."""


def wants_stream(headers: Headers) -> bool:
    """Whether a request asks for a stream by name."""
    return any(each.partition(";")[0].strip().lower() == STREAM for each in headers.get("accept", "").split(","))


def asks_head(scope: Scope) -> bool:
    """Whether a request is a HEAD that is answered as a GET."""
    return scope["method"] == "HEAD" and bool(scope["path"].startswith(_ANSWERED))


async def answer_head(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Send what the application answers to the same GET up to its body; no more of the answer is made then."""

    async def send_head(message: Message) -> None:
        if message["type"] == "http.response.start":
            await send(message)
        elif message["type"] == "http.response.body":
            await send({"type": "http.response.body", "body": b""})
            raise _ToldError

    headers = scope["headers"]
    if wants_stream(Headers(scope=scope)):
        headers = [each for each in headers if each[0] != b"accept"]
    try:
        await app({**scope, "method": "GET", "headers": headers}, receive, send_head)
    except _ToldError:
        return
