"""The intake: what a request brings along, checked before its route is asked.

Owns which names a query may have, of what kind a body may be, and that a large one is read in a thread. Every router
of the API makes its routes of the class here; what a route takes is found out once, when it is made.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from http import HTTPStatus
from typing import Any, ClassVar

from anyio import to_thread
from fastapi import HTTPException, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.requests import ClientDisconnect

from agentflow.api.caller import Caller, role_of
from agentflow.api.guard import nothing
from agentflow.api.read_json import FIELD, read_json
from agentflow.domain.api_key import Role
from agentflow.domain.misfit import MOST_FAULTS, FieldFault, Misfit
from agentflow.domain.plan import NAME_PATTERN, NAME_WORDS
from agentflow.domain.wording import did_you_mean, shorten

IN_THREAD_BYTES = 64 * 1024
MOST_FIELDS = 100
"""More than any body has: what is unknown of a million fields would be looked at one by one."""
_NAMES = ("project", "name")
"""What holds the name of a project or of a plan, wherever it is taken."""
_EMPTY = (b"", b"{}", b"null")
_SEND = "send JSON with Content-Type: application/json"
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class _Told(Request):
    """A request whose body was read."""

    read: Any = None

    async def json(self) -> Any:
        """Return what the body says."""
        return self.read


class Route(APIRoute):
    """A route that is asked only with what it takes."""

    knows_all_names: ClassVar[bool] = True
    """Whether a name in the query that the route does not take is a mistake of the caller's."""

    def get_route_handler(self) -> Handler:
        """Return the handler that the framework calls."""
        handle = super().get_route_handler()
        names = frozenset(_query_names(self.dependant))
        takes_body, is_strict = self.body_field is not None, self.knows_all_names

        roles = list(_roles(self.dependant))

        async def answer(request: Request) -> Response:
            caller = request.scope.get("state", {}).get("caller")
            if not isinstance(caller, Caller) or not all(caller.key.role.includes(role) for role in roles):
                return await handle(_Told(request.scope, nothing))  # who may not ask is told that, and nothing is read
            told = _Told(request.scope, request.receive)
            if request.scope["query_string"]:
                _check_query(told, names if is_strict else None)
            if request.method not in ("GET", "HEAD"):
                await _take_body(told, takes_body=takes_body)
            return await handle(told)

        return answer


def _roles(dependant: Dependant) -> Iterator[Role]:
    role = role_of(dependant.call)
    if role is not None:
        yield role
    for each in dependant.dependencies:
        yield from _roles(each)


def _query_names(dependant: Dependant) -> Iterator[str]:
    yield from (each.alias for each in dependant.query_params)
    for each in dependant.dependencies:
        yield from _query_names(each)


def _check_query(request: Request, known: frozenset[str] | None) -> None:
    faults, given = [], request.query_params.multi_items()
    names = sorted(known or ())
    often = Counter(name for name, _ in given)
    for name, value in given[:MOST_FAULTS]:
        field = f"query.{shorten(name)}"
        if known is not None and name not in known:
            help_ = did_you_mean(name, names) if names else "this takes no parameters"
            faults.append(FieldFault(field, "unknown_parameter", f"there is none: {help_}"))
        elif known is not None and often[name] > 1:
            faults.append(FieldFault(field, "duplicate_parameter", "stands more than once"))
        elif not _is_text(value):
            faults.append(FieldFault(field, "not_a_text", "holds a NUL, or bytes that are no UTF-8"))
        elif name in _NAMES and known is not None and not re.match(NAME_PATTERN, value):
            faults.append(FieldFault(field, "not_a_name", f"is no name: {NAME_WORDS}"))
    if faults:
        raise Misfit(list(dict.fromkeys(faults)))


def _is_text(value: str) -> bool:
    return "\0" not in value and "\N{REPLACEMENT CHARACTER}" not in value


async def _take_body(request: _Told, *, takes_body: bool) -> None:
    headers = request.headers
    if headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers:
        return
    try:
        body = await request.body()
    except ClientDisconnect:  # nobody hears the answer, and nothing is to be done
        raise HTTPException(HTTPStatus.BAD_REQUEST, "The body broke off.") from None
    if not takes_body:
        if body.strip() not in _EMPTY:
            raise Misfit([FieldFault(FIELD, "no_body", "this takes no body: send none")])
    elif body:
        _check_kind(headers.get("content-type", ""), headers.get("content-encoding", "identity"))
        is_large = len(body) > IN_THREAD_BYTES
        request.read = await to_thread.run_sync(read_json, body) if is_large else read_json(body)
        if isinstance(request.read, dict) and len(request.read) > MOST_FIELDS:
            raise Misfit([FieldFault(FIELD, "too_many_fields", f"has more than {MOST_FIELDS} fields, as none has")])


def _check_kind(content_type: str, encoding: str) -> None:
    """Raise 415 for a body that is something else than JSON, or is packed."""
    kind, *parameters = (each.strip().lower() for each in content_type.split(";"))
    if kind != "application/json" and not (kind.startswith("application/") and kind.endswith("+json")):
        raise _unsupported(f"The body is not said to be JSON: {_SEND}.")
    charsets = [each.partition("=")[2].strip().strip('"') for each in parameters if each.startswith("charset")]
    if any(each not in ("utf-8", "utf8") for each in charsets):
        raise _unsupported("The body is said to be in another charset: send UTF-8.")
    if encoding.strip().lower() != "identity":
        raise _unsupported("The body is said to be packed: send it as it is, without Content-Encoding.")


def _unsupported(said: str) -> HTTPException:
    return HTTPException(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, said)
