"""The caller: whose key a request shows, and the client that acts in its name.

Owns the way from a request to a client, which is gone before any of the body is read. A key of one project sees that
project only; roles are domain/api_key.py's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Annotated, Any

import anyio
from anyio import to_thread
from fastapi import Depends, Query, Request
from fastapi.security import HTTPBearer
from starlette.datastructures import Headers
from starlette.types import Scope

from agentflow.api.probe import ANSWER_SECONDS, Probes, database_late, deadline
from agentflow.api.throttle import Throttle
from agentflow.client import AgentFlow, Run
from agentflow.domain.api_key import ApiKey, Role
from agentflow.domain.error import NotAllowed, ServersUnreachable, Unauthenticated
from agentflow.domain.ids import RunId
from agentflow.engine.authenticate import authenticate
from agentflow.storage.views import whole_id

READY = "/api/v1/health/ready"
"""The address that answers in time whatever hangs."""
KEY_SECONDS = 10.0
"""For how long who shows a key waits at other addresses for Postgres to say whose it is."""
_bearer = HTTPBearer(auto_error=False, description="A key of `agentflow key create NAME --role ROLE`.")


@dataclass(frozen=True, slots=True)
class House:
    """What the routes of one process share."""

    flow: AgentFlow
    by_address: Throttle
    by_key: Throttle
    probes: Probes = field(default_factory=Probes)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and ``flow``, which does in its name what it asks for."""

    key: ApiKey
    flow: AgentFlow

    def project(self, asked: str | None) -> str | None:
        """Return the project to look into, None for all. NotAllowed for one that the key does not open."""
        if self.key.project is None or asked in (None, self.key.project):
            return asked or self.key.project
        raise NotAllowed(f"The key {self.key.name!r} opens project {self.key.project} only.", project=asked)

    def run(self, reference: str) -> Run:
        """Return a run that the caller may see. Raises NotFound, AmbiguousId and UsageError."""
        return self.flow.get(reference, project=self.key.project)

    def run_id(self, reference: str) -> RunId:
        """Return the id of a run that the caller may see, if there is one: who opens all is not asked about it first.

        Raises as ``run`` does.
        """
        given = whole_id(reference) if self.key.project is None else None
        return RunId(self.run(reference).uuid) if given is None else given


def whole(caller: Caller) -> Caller:
    """Return a caller who sees everything. NotAllowed for the key of one project."""
    if caller.key.project is not None:
        raise NotAllowed(
            f"This concerns all projects, and the key {caller.key.name!r} opens project {caller.key.project} only.",
            project=caller.key.project,
        )
    return caller


async def look_at(scope: Scope) -> bool:
    """Ask who sends a request, and leave it in the scope for the route; False where nobody may who is let in by a key.

    An error is left there too: the route raises it, so that it is told in the route's own form.
    """
    house: House = scope["app"].state.house
    found: Caller | Exception
    try:
        house.by_address.admit(scope["client"][0] if scope.get("client") else "")
        found = await _find_out(scope, house, _shown(scope))
    except Exception as error:  # noqa: BLE001 - raised again by the route
        found = error
    scope.setdefault("state", {})["caller"] = found
    return isinstance(found, Caller)


async def _find_out(scope: Scope, house: House, shown: str) -> Caller:
    """Identify who shows a key, in time: a Postgres that hangs with all that was asked of it answers nobody.

    For ``READY`` in threads that nothing else takes, and with the word which part is away that cannot be asked.
    """
    if scope["path"] != READY:
        try:
            with anyio.fail_after(KEY_SECONDS):
                return await to_thread.run_sync(identify, house, shown, abandon_on_cancel=True)
        except TimeoutError:
            raise ServersUnreachable(f"{database_late(KEY_SECONDS)}.") from None
    until = scope.setdefault("state", {})["until"] = deadline()
    try:
        return await house.probes.key.ask(lambda: identify(house, shown), until)
    except TimeoutError:
        raise ServersUnreachable(f"{database_late(ANSWER_SECONDS)}.", component="database") from None
    except ServersUnreachable as error:
        raise ServersUnreachable(str(error), **error.details, component="database") from error


def _shown(scope: Scope) -> str:
    kind, _, shown = Headers(scope=scope).get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and (key := shown.strip()):
        return key
    raise Unauthenticated("Show a key: Authorization: Bearer af_...; `agentflow key create` makes one.")


def identify(house: House, shown: str) -> Caller:
    """Find out who shows a key. Raises Unauthenticated and TooManyRequests."""
    key = authenticate(house.flow.context, shown)
    house.by_key.admit(key.public_id)
    return Caller(key, house.flow.acting_as(f"key:{key.name}", project=key.project))


def caller_of(scope: Scope) -> Caller:
    """Return who sends a request that was looked at, or raise why it is not answered."""
    found: Caller | Exception = scope["state"]["caller"]
    if isinstance(found, Exception):
        raise found
    return found


async def _identified(request: Request, _: Annotated[object, Depends(_bearer)]) -> Caller:
    return caller_of(request.scope)


Identified = Annotated[Caller, Depends(_identified)]
"""Whoever shows a key that opens something: for what is taken beside a role."""


_ROLES: dict[Callable[..., object], Role] = {}


def role_of(check: Callable[..., object] | None) -> Role | None:
    """Return the role that a dependency asks for; None for one that asks for none."""
    return None if check is None else _ROLES.get(check)


def _at_least(role: Role) -> Callable[..., Awaitable[Caller]]:
    async def check(caller: Identified) -> Caller:
        if not caller.key.role.includes(role):
            raise NotAllowed(
                f"The key {caller.key.name!r} has role {caller.key.role.value}; this takes a key of role {role.value}.",
                role=caller.key.role.value,
                needed=role.value,
            )
        return caller

    check.__name__ = f"is_{role.value}"
    _ROLES[check] = role
    return check


Viewer = Annotated[Caller, Depends(_at_least(Role.VIEWER))]
Operator = Annotated[Caller, Depends(_at_least(Role.OPERATOR))]
Admin = Annotated[Caller, Depends(_at_least(Role.ADMIN))]
Project = Annotated[str | None, Query(description="Only of this project.")]
Json = dict[str, Any]
