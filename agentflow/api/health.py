"""Health: whether this process lives, which anybody may ask, and whether each part that it needs answers."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse
from redis.exceptions import RedisError

from agentflow.api.caller import House, Json, Viewer
from agentflow.domain.error import AgentflowError
from agentflow.storage import balances

live = APIRouter(tags=["health"])
router = APIRouter(prefix="/health", tags=["health"])


@live.get("/livez")
def livez() -> Json:
    """Say that this process answers. The one address that needs no key."""
    return {"status": "ok"}


@router.get("/ready")
def ready(caller: Viewer, request: Request) -> JSONResponse:
    """Tell for each server whether it answers; 503 where one does not."""
    house: House = request.app.state.house
    context = house.flow.context
    found: dict[str, str] = {}
    try:
        with context.database.transaction() as tx:
            balances.read_now(tx)
        found["postgres"] = "ok"
    except AgentflowError as error:
        found["postgres"] = str(error)
    try:
        context.side_channel.client.ping()
        found["redis"] = "ok"
    except RedisError as error:
        found["redis"] = f"Redis does not answer: {type(error).__name__}"
    is_ready = set(found.values()) == {"ok"}
    status = HTTPStatus.OK if is_ready else HTTPStatus.SERVICE_UNAVAILABLE
    return JSONResponse({"status": "ok" if is_ready else "unready", "components": found}, status)
