"""The server over stdio, for an agent on this machine: it acts as the settings' actor. Logs go to stderr."""

from __future__ import annotations

from agentflow import telemetry
from agentflow.client import AgentFlow
from agentflow.mcp.server import Acting, make_server
from agentflow.settings import Settings


def serve_stdio(settings: Settings) -> None:
    """Answer until stdin ends."""
    telemetry.configure(log_format=settings.log_format, level=settings.log_level, is_redacting=settings.is_redacting)
    with AgentFlow(settings) as flow:
        make_server(lambda: Acting(flow)).run("stdio")
