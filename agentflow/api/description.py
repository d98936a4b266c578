"""The description of the API itself, as an OpenAPI document."""

from __future__ import annotations

from fastapi import APIRouter, Request

from agentflow.api.caller import Json, Viewer

router = APIRouter(tags=["description"])


@router.get("/openapi.json")
def openapi(caller: Viewer, request: Request) -> Json:
    """Describe every address: what it takes and what it answers."""
    described: Json = request.app.openapi()
    return described
