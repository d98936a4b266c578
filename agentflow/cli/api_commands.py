"""The verbs ``api`` and ``mcp``: an installation for programs over the network, and for an agent on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from agentflow.cli import printing
from agentflow.cli.options import STACK

Host = Annotated[str, typer.Option("--host", help="The address to listen at.")]
Processes = Annotated[int | None, typer.Option("--processes", min=1, max=64, help="How many processes serve it.")]
Port = Annotated[int, typer.Option("--port", min=0, max=65535, help="The port to listen at.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command(rich_help_panel=STACK)(api)
    app.command(rich_help_panel=STACK)(mcp)


def api(host: Host = "127.0.0.1", port: Port = 8000, processes: Processes = None) -> None:
    """Serve the HTTP API below /api/v1; /api/v1/openapi.json describes it. Needs: pip install "agentflow[api]".

    Every call shows a key: `agentflow key create NAME --role operator`.
    """
    from agentflow.domain.error import ConfigurationError
    from agentflow.settings import load_settings

    try:
        from agentflow.api.serve import serve
    except ModuleNotFoundError as error:
        raise ConfigurationError(f'The API needs {error.name}: pip install "agentflow[api]"') from error
    printing.note(f"The API listens at http://{host}:{port}/api/v1; end it with Ctrl-C.")
    given = {} if processes is None else {"api_processes": processes}
    serve(load_settings(**given), host, port)


def mcp() -> None:
    """Serve agentflow's tools to an agent over stdin and stdout (MCP). Needs: pip install "agentflow[mcp]"."""
    from agentflow.domain.error import ConfigurationError
    from agentflow.settings import load_settings

    try:
        from agentflow.mcp.stdio import serve_stdio
    except ModuleNotFoundError as error:
        raise ConfigurationError(f'The MCP server needs {error.name}: pip install "agentflow[mcp]"') from error
    serve_stdio(load_settings())
