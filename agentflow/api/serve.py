"""Serve the API with uvicorn; on any address but this machine's own only when it is asked for by name."""

from __future__ import annotations

import uvicorn

from agentflow.api.app import make_app
from agentflow.settings import Settings


def serve(settings: Settings, host: str, port: int) -> None:
    """Answer requests until SIGTERM or SIGINT; what is being answered then is finished."""
    uvicorn.run(make_app(settings), host=host, port=port, log_level="warning", server_header=False, access_log=False)
