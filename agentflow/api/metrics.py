"""Metrics, as Prometheus scrapes them."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header
from fastapi.responses import Response

from agentflow.api.caller import Viewer
from agentflow.api.intake import Route
from agentflow.domain.error import NotAllowed
from agentflow.monitor.metrics_collector import exposition

router = APIRouter(prefix="/metrics", tags=["health"], route_class=Route)


@router.get("", response_class=Response)
def scrape(caller: Viewer, accept: Annotated[str, Header()] = "") -> Response:
    """Tell how the installation stands, in Prometheus' text form or in OpenMetrics. Takes a key of no project."""
    if caller.key.project is not None:
        raise NotAllowed(
            f"The key {caller.key.name!r} opens project {caller.key.project} only, and metrics speak of all.",
            project=caller.key.project,
        )
    body, media_type = exposition(caller.flow.context, accept)
    return Response(body, media_type=media_type)
