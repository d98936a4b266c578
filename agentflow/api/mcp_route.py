"""The MCP server below ``/mcp``: the same tools as over stdio, in the name of the key that a request shows.

Owns the way from a request to who acts. Each request is whole in itself: nothing is kept between two of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar
from typing import Any

from mcp.server import MCPServer
from mcp.server.transport_security import TransportSecuritySettings
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from agentflow.api.caller import Caller, caller_of
from agentflow.api.problem import problem_of
from agentflow.domain.error import AgentflowError
from agentflow.mcp.server import Acting, make_server

PATH = "/mcp"
_caller: ContextVar[Caller] = ContextVar("caller")


def mcp_server() -> MCPServer[Any]:
    """Build the server whose tools act for the caller of the request."""
    return make_server(_who)


def mcp_routes(server: MCPServer[Any], allowed_hosts: Sequence[str]) -> list[Route]:
    """Return the routes of the server, behind the keys of the API."""
    security = TransportSecuritySettings(allowed_hosts=list(allowed_hosts))
    app = server.streamable_http_app(
        streamable_http_path=PATH, json_response=True, stateless_http=True, transport_security=security
    )
    return [Route(PATH, _Keyed(app), methods=["GET", "POST", "DELETE"])]


def _who() -> Acting:
    caller = _caller.get()
    return Acting(caller.flow, caller.key.role, caller.key.project)


class _Keyed:
    """Lets those in who show a key."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the tools know who calls."""
        try:
            caller = caller_of(scope)
        except AgentflowError as error:
            await problem_of(error, scope["path"])(scope, receive, send)
            return
        token = _caller.set(caller)
        try:
            await self._app(scope, receive, send)
        finally:
            _caller.reset(token)
