"""Webhooks: have other programs told what happens, look at what came of it, try, stop and forget.

The path of an address is often a credential: only an admin is shown more of it than scheme, host and port.
"""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import Field

from agentflow.api.bodies import Body
from agentflow.api.caller import Admin, Caller, Json, Project, Viewer
from agentflow.api.intake import Route
from agentflow.api.once import Once
from agentflow.api.paging import Cursor, Limit, page
from agentflow.domain.api_key import Role
from agentflow.domain.webhook import Webhook
from agentflow.engine.create_webhook import WithSecret

router = APIRouter(prefix="/webhooks", tags=["webhooks"], route_class=Route)
_MOST = 1000
"""Of what is named one by one."""


class NewWebhook(Body):
    """Who is to be told of what."""

    name: str
    url: str = Field(description="Where messages are sent, http or https.", examples=["https://example.org/hook"])
    on: list[str] | None = Field(
        default=None,
        max_length=_MOST,
        description="What is told; else ends of runs, gates that open and budgets that are exhausted.",
        examples=[["run.completed", "run.failed"]],
    )
    project: str | None = Field(default=None, description="Only what happens in it; else what the key may see.")
    plan: str | None = Field(default=None, description="Only runs of plans of this name.")


class SendAgain(Body):
    """Which deliveries are to be sent again: some, or all that failed since a time."""

    deliveries: list[str] = Field(default_factory=list, max_length=_MOST, description="Their ids.")
    failed_since: str | None = Field(default=None, description="A time, or how long ago.", examples=["2h"])


@router.get("")
def webhooks(caller: Viewer, project: Project = None, limit: Limit = 100, cursor: Cursor = None) -> Json:
    """List the webhooks by name."""
    found, following = page(caller.flow.webhooks(project=caller.project(project)), _place, limit, cursor)
    listed = [_shown(caller, each) for each in found]
    return {"schema": "agentflow.webhooks/1", "webhooks": listed, "next_cursor": following}


def _place(webhook: Webhook) -> tuple[str, str]:
    return webhook.name, webhook.id


@router.post("", status_code=HTTPStatus.CREATED)
def create_webhook(caller: Admin, once: Once, body: NewWebhook, request: Request) -> Response:
    """Have an address told what happens. The secret that signs is in this answer and can never be told again."""
    return once(lambda: _created(caller, body, request), is_secret=True)


def _created(caller: Caller, body: NewWebhook, request: Request) -> Response:
    project = caller.project(body.project)
    made = caller.flow.create_webhook(body.name, body.url, on=body.on, project=project, plan=body.plan)
    where = request.url_for("show_webhook", name=made.webhook.id).path
    return JSONResponse(_with_secret(caller, made), HTTPStatus.CREATED, {"Location": where})


@router.get("/{name}")
def show_webhook(caller: Viewer, name: str, project: Project = None) -> Json:
    """Show a webhook, by its name or its id."""
    return _told(caller, caller.flow.webhook(name, project=caller.project(project)))


@router.delete("/{name}")
def remove_webhook(caller: Admin, name: str, project: Project = None) -> Json:
    """Remove a webhook with the history of its deliveries."""
    return _told(caller, caller.flow.remove_webhook(name, project=caller.project(project)))


@router.get("/{name}/deliveries")
def deliveries(
    caller: Viewer,
    name: str,
    state: str | None = None,
    project: Project = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Json:
    """List what a webhook was told, the newest first, and what came of it: pending, delivered or failed."""
    found = caller.flow.webhook_deliveries(
        name, project=caller.project(project), state=state, limit=limit, cursor=cursor
    )
    listed = [each.as_json() for each in found.deliveries]
    return {"schema": "agentflow.webhook-deliveries/1", "deliveries": listed, "next_cursor": found.next_cursor}


@router.post("/{name}/test")
def ping_webhook(caller: Admin, once: Once, name: str, project: Project = None) -> Response:
    """Send a ping at once, and tell what came of it; it is not tried again."""
    project = caller.project(project)
    return once(lambda: _pinged(caller, name, project))


def _pinged(caller: Caller, name: str, project: str | None) -> Response:
    told = caller.flow.test_webhook(name, project=project)
    return JSONResponse({"schema": "agentflow.webhook-delivery/1", **told.as_json()})


@router.post("/{name}/replay", status_code=HTTPStatus.ACCEPTED)
def replay_webhook(
    caller: Admin, once: Once, name: str, body: SendAgain, request: Request, project: Project = None
) -> Response:
    """Have past deliveries sent again, under the ids that they had."""
    project = caller.project(project)
    return once(lambda: _replayed(caller, name, project, body, request))


def _replayed(caller: Caller, name: str, project: str | None, body: SendAgain, request: Request) -> Response:
    sent = caller.flow.replay_webhook(name, body.deliveries, project=project, failed_since=body.failed_since)
    answer = {"schema": "agentflow.webhook-replay/1", "deliveries": [str(each) for each in sent]}
    return JSONResponse(answer, HTTPStatus.ACCEPTED, {"Location": request.url_for("deliveries", name=name).path})


@router.post("/{name}/enable")
def enable_webhook(caller: Admin, name: str, project: Project = None) -> Json:
    """Tell a webhook again: of what happens from now on, and of what waited."""
    return _told(caller, caller.flow.enable_webhook(name, project=caller.project(project)))


@router.post("/{name}/disable")
def disable_webhook(caller: Admin, name: str, project: Project = None) -> Json:
    """Tell a webhook nothing more; what waits, waits until it is enabled."""
    return _told(caller, caller.flow.disable_webhook(name, project=caller.project(project)))


@router.post("/{name}/rotate")
def rotate_webhook(caller: Admin, once: Once, name: str, project: Project = None) -> Response:
    """Give a webhook another secret, told in this answer only; the one before signs too for a day."""
    project = caller.project(project)

    def rotate() -> Response:
        return JSONResponse(_with_secret(caller, caller.flow.rotate_webhook(name, project=project)))

    return once(rotate, is_secret=True)


def _told(caller: Caller, webhook: Webhook) -> Json:
    return {"schema": "agentflow.webhook/1", **_shown(caller, webhook)}


def _shown(caller: Caller, webhook: Webhook) -> Json:
    return webhook.as_json(has_url=caller.key.role.includes(Role.ADMIN))


def _with_secret(caller: Caller, made: WithSecret) -> Json:
    return _told(caller, made.webhook) | {"secret": made.secret}
