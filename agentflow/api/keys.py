"""The keys of this API: made, listed, revoked. The key of one project has power over keys of it only."""

from __future__ import annotations

from http import HTTPStatus

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from agentflow.api.bodies import NewKey
from agentflow.api.caller import Admin, Caller, Json
from agentflow.api.intake import Route
from agentflow.api.once import Once
from agentflow.api.paging import Cursor, Limit, page
from agentflow.domain.api_key import ApiKey, KeyState
from agentflow.domain.error import NotFound

router = APIRouter(prefix="/keys", tags=["keys"], route_class=Route)


@router.get("")
def keys(caller: Admin, limit: Limit = 100, cursor: Cursor = None) -> Json:
    """List the keys without their secrets, those that open something first."""
    found, following = page(_seen(caller), _place, limit, cursor)
    return {"schema": "agentflow.keys/1", "keys": [each.as_json() for each in found], "next_cursor": following}


def _place(key: ApiKey) -> tuple[bool, str, str]:
    return key.state is not KeyState.VALID, key.name, key.public_id


@router.post("", status_code=HTTPStatus.CREATED)
def create_key(caller: Admin, once: Once, body: NewKey, request: Request) -> Response:
    """Make a key. Its text is in this answer and can never be told again."""
    return once(lambda: _made(caller, body, request), is_secret=True)


def _made(caller: Caller, body: NewKey, request: Request) -> Response:
    project = caller.project(body.project)
    made = caller.flow.create_key(body.name, body.role, project=project, expires=body.expires)
    answer = {"schema": "agentflow.key/1", **made.key.as_json(), "key": made.text}
    return JSONResponse(answer, HTTPStatus.CREATED, {"Location": request.url_for("show_key", name=body.name).path})


@router.get("/{name}")
def show_key(caller: Admin, name: str) -> Json:
    """Show the key of a name that was not revoked."""
    return {"schema": "agentflow.key/1", **_find(caller, name).as_json()}


@router.delete("/{name}")
def revoke_key(caller: Admin, name: str) -> Json:
    """Let a key open nothing any more, from now on."""
    _find(caller, name)
    return {"schema": "agentflow.key/1", **caller.flow.revoke_key(name).as_json()}


def _seen(caller: Caller) -> list[ApiKey]:
    known = caller.flow.keys()
    return [key for key in known if caller.key.project in (None, key.project)]


def _find(caller: Caller, name: str) -> ApiKey:
    for key in _seen(caller):
        if key.name == name and key.state is not KeyState.REVOKED:
            return key
    raise NotFound(f"There is no key {name!r} that was not revoked.", name=name)
