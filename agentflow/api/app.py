"""The application: every route under ``/api/v1``, the guard around them, and the errors as problems.

request -> guard (throttle, key, bytes, headers) -> caller (role) -> route -> AgentFlow -> engine or storage
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import cache

from anyio import to_thread
from fastapi import APIRouter, FastAPI
from starlette.routing import BaseRoute

from agentflow import __version__
from agentflow.api import (
    audit,
    bulk,
    dead_letters,
    description,
    founding,
    health,
    installation,
    jobs,
    keys,
    live,
    metrics,
    plans,
    problem,
    related,
    run_verbs,
    runs,
    schedules,
    upkeep,
    webhooks,
)
from agentflow.api.caller import House
from agentflow.api.guard import Guard
from agentflow.api.live_hub import Hub
from agentflow.api.mcp_route import mcp_routes, mcp_server
from agentflow.api.throttle import Throttle
from agentflow.client import AgentFlow
from agentflow.engine.job_worker import JobWorker
from agentflow.settings import Settings

PREFIX = "/api/v1"
OF_ADDRESS = 4
"""How many times as often as one key one address may ask."""
ROUTERS = (
    live.streams,
    live.router,
    bulk.router,
    runs.router,
    related.router,
    run_verbs.router,
    plans.router,
    schedules.router,
    dead_letters.router,
    audit.router,
    installation.router,
    upkeep.router,
    jobs.router,
    keys.router,
    webhooks.router,
    health.router,
    metrics.router,
    description.router,
)
"""What is served below the prefix; every route of them takes a key."""


def make_app(settings: Settings) -> FastAPI:
    """Build the application over one installation; connections are made at the first request."""
    flow = AgentFlow(settings)
    flow.database_connections = settings.api_database_connections

    tools, worker = mcp_server(), JobWorker()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with tools.session_manager.run():
            yield
        await to_thread.run_sync(worker.stop)
        flow.close()

    app = FastAPI(
        title="agentflow",
        version=__version__,
        summary="Runs plans of agent work on Celery.",
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
    )
    often = settings.api_requests_per_minute
    app.state.house = House(flow, Throttle(often * OF_ADDRESS), Throttle(often))
    app.state.hub = Hub(flow)
    app.state.jobs = worker
    problem.add_handlers(app)
    app.router.routes += [*_routes(), *mcp_routes(tools, settings.api_hosts)]
    app.add_middleware(Guard)
    return app


@cache
def _routes() -> list[BaseRoute]:
    """All that is served apart from MCP, once for every application: to analyse it takes a quarter of a second."""
    below = APIRouter(prefix=PREFIX)
    for resource in ROUTERS:
        below.include_router(resource)
    every = APIRouter()
    for router in (below, founding.router, health.live):
        every.include_router(router)
    return every.routes
