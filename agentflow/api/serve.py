"""Serve the API with uvicorn, in one process or several; they share nothing but the address."""

from __future__ import annotations

import uvicorn
from fastapi import FastAPI

from agentflow.api.app import make_app
from agentflow.settings import Settings, load_settings


def serve(settings: Settings, host: str, port: int) -> None:
    """Answer requests until SIGTERM or SIGINT; what is being answered then is finished.

    A process of several that dies is started again; each reads the environment by itself.
    """
    several = settings.api_processes > 1
    uvicorn.run(
        "agentflow.api.serve:from_environment" if several else make_app(settings),
        factory=several,
        workers=settings.api_processes if several else None,
        host=host,
        port=port,
        log_level="warning",
        server_header=False,
        access_log=False,
    )


def from_environment() -> FastAPI:
    """Build the application of one process of several."""
    return make_app(load_settings())
