"""The verbs ``api`` and ``mcp``: an installation for programs over the network, and for an agent on this machine."""

from __future__ import annotations

from typing import Annotated

import typer

from agentflow.cli import printing
from agentflow.cli.options import STACK

Host = Annotated[str, typer.Option("--host", help="The address to listen at.")]
Processes = Annotated[int | None, typer.Option("--processes", min=1, max=64, help="How many processes serve it.")]
Port = Annotated[
    int | None, typer.Option("--port", min=1, max=65535, help="The port to listen at; else AGENTFLOW_API_PORT.")
]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command(rich_help_panel=STACK)(api)
    app.command(rich_help_panel=STACK)(mcp)


def api(host: Host = "127.0.0.1", port: Port = None, processes: Processes = None) -> None:
    """Serve the HTTP API below /api/v1; /api/v1/docs describes it. Needs: pip install "agentflow[api]".

    Every call shows a key: `agentflow key create NAME --role operator`. `agentflow up --api` does all at once.
    """
    from agentflow.settings import load_settings

    check_api_installed()
    from agentflow.api.serve import is_loopback, serve

    given = {} if processes is None else {"api_processes": processes}
    settings = load_settings(**given)
    chosen = settings.api_port if port is None else port
    if not is_loopback(host):
        printing.note(
            f"Others reach {host}, and keys travel there as they are: put a proxy that speaks TLS before the API."
        )

    def tell() -> None:
        named = f"[{host}]" if ":" in host else host
        printing.note(f"The API answers at http://{named}:{chosen}/api/v1; end it with Ctrl-C.")

    serve(settings, host, chosen, tell)


def check_api_installed() -> None:
    """ConfigurationError where the packages of the API are missing; it says how to get them."""
    from importlib.util import find_spec

    from agentflow.domain.error import ConfigurationError

    missing = [name for name in ("fastapi", "mcp", "uvicorn") if find_spec(name) is None]
    if missing:
        raise ConfigurationError(f'The API needs {" and ".join(missing)}: pip install "agentflow[api]"')


def mcp() -> None:
    """Serve agentflow's tools to an agent over stdin and stdout (MCP). Needs: pip install "agentflow[mcp]"."""
    from agentflow.domain.error import ConfigurationError
    from agentflow.settings import load_settings

    try:
        from agentflow.mcp.stdio import serve_stdio
    except ModuleNotFoundError as error:
        raise ConfigurationError(f'The MCP server needs {error.name}: pip install "agentflow[mcp]"') from error
    serve_stdio(load_settings())
