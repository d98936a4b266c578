"""The guard around all routes: who calls is asked before any of the body is read, bodies are bounded, and every answer
carries the headers that keep browsers careful.

Plain ASGI, so that it costs next to nothing and streams go through.
"""

from __future__ import annotations

from http import HTTPStatus

from starlette.datastructures import Headers, MutableHeaders
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from agentflow.api.caller import look_at
from agentflow.api.head import answer_head, asks_head
from agentflow.api.problem import TOO_LARGE, problem
from agentflow.telemetry.spans import HEADER, caller

OPEN = "/livez"
"""The one address that takes no key."""
BODY_BYTES = 16 * 1024 * 1024
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
}


class _TooLargeError(HTTPException):
    """More came than may."""

    def __init__(self) -> None:
        super().__init__(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)


class Guard:
    """Wraps an application."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, refuse its body, or let it go on without one to the route, which says who may ask."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if asks_head(scope):
            await answer_head(self, scope, receive, send)
            return
        request = _Request(scope, receive, send)
        headers = Headers(scope=scope)
        caller.set(headers.get(HEADER))
        told = headers.get("content-length", "0")
        if scope["path"] != OPEN and not await look_at(scope):
            await self._app(scope, nothing, request.send)
        elif told.isdecimal() and int(told) > BODY_BYTES:
            await request.refuse()
        else:
            await self._app(scope, request.receive, request.send)
            if request.is_too_large and not request.has_begun:
                await request.refuse()


async def nothing() -> Message:
    """The body of a request that is refused: it is left where it is."""
    return {"type": "http.request", "body": b"", "more_body": False}


class _Request:
    """One request: counts what comes, and adds to what goes."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._taken = 0
        self.is_too_large = False
        self.has_begun = False

    async def receive(self) -> Message:
        """Take a part of the body. _TooLargeError above the bound; what is made of that is not sent."""
        message = await self._receive()
        self._taken += len(message.get("body", b""))
        if self._taken > BODY_BYTES:
            self.is_too_large = True
            raise _TooLargeError
        return message

    async def send(self, message: Message) -> None:
        """Send a part of the answer."""
        if self.is_too_large and not self.has_begun:
            return
        await self._pass_on(message)

    async def refuse(self) -> None:
        """Answer that the body is too large."""
        said = f"A body has at most {BODY_BYTES} bytes."
        refused = problem(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, TOO_LARGE, said, self._scope["path"])
        await refused(self._scope, self._receive, self._pass_on)

    async def _pass_on(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.has_begun = True
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        await self._send(message)
