"""The description of the API itself, as an OpenAPI document, and the page to read it on.

Owns what is said of every address alike: its summary, the problems that it may answer with, the schemas. What it
answers when all is well stands in declared.py.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.openapi.utils import get_openapi
from fastapi.responses import HTMLResponse

from agentflow.api import components, page
from agentflow.api.caller import Json, Viewer
from agentflow.api.declared import ANSWERS, described
from agentflow.api.intake import Route
from agentflow.api.page import PageReader
from agentflow.api.problem import MEDIA_TYPE

router = APIRouter(tags=["description"], route_class=Route)
PREFIX = "/api/v1"
_METHODS = ("get", "put", "post", "delete", "patch")
_ABOUT = (
    "Every call shows a key: `Authorization: Bearer af_...`; `agentflow key create NAME --role ROLE` makes one. What "
    "an address answers is what `--json` of the same verb prints; what goes wrong is a problem (RFC 9457) whose `code` "
    "is the command line's. A run is named by its id, by the beginning of it, or as `@last`."
)
_KEYED = (
    HTTPStatus.UNAUTHORIZED,
    HTTPStatus.FORBIDDEN,
    HTTPStatus.UNPROCESSABLE_ENTITY,
    HTTPStatus.TOO_MANY_REQUESTS,
    HTTPStatus.INTERNAL_SERVER_ERROR,
    HTTPStatus.SERVICE_UNAVAILABLE,
)
_HEADERS = {
    HTTPStatus.UNAUTHORIZED: ("WWW-Authenticate",),
    HTTPStatus.TOO_MANY_REQUESTS: ("Retry-After",),
    HTTPStatus.SERVICE_UNAVAILABLE: ("Retry-After",),
}


@router.get("/openapi.json")
def openapi(caller: Viewer, request: Request) -> Json:
    """Describe every address: what it takes and what it answers."""
    return _described_once(request.app)


@router.get("/docs", response_class=HTMLResponse)
def docs(caller: PageReader, request: Request) -> HTMLResponse:
    """Show the description as a page. A browser asks for a key as the password of any name."""
    text = page.render(_described_once(request.app))
    return HTMLResponse(text, headers={"Content-Security-Policy": page.POLICY})


def describe(app: FastAPI) -> Json:
    """Describe an application."""
    document = get_openapi(
        title=app.title,
        version=app.version,
        openapi_version="3.1.0",
        summary=app.summary,
        description=_ABOUT,
        routes=app.routes,
    )
    for path, method, operation in _operations(document):
        operation |= _words(operation) | {"operationId": _name(path, method, operation)}
        operation["responses"] = _responses(path, method, operation)
    document["components"]["schemas"] = _schemas(document)
    _add_examples(document)
    document["components"]["responses"] = _shared(document)
    return document


def _described_once(app: FastAPI) -> Json:
    if app.openapi_schema is None:
        app.openapi_schema = describe(app)
    return app.openapi_schema


def _operations(document: Json) -> Iterator[tuple[str, str, Json]]:
    for path, methods in document["paths"].items():
        for method in _METHODS:
            if method in methods:
                yield path, method, methods[method]


def _name(path: str, method: str, operation: Json) -> str:
    """Return a name of an address that lasts: its first tag and the name of its function."""
    made = re.sub(r"\W", "_", path) + f"_{method}"
    return f"{operation['tags'][0]} {operation['operationId'].removesuffix(made)}".replace(" ", "_")


def _words(operation: Json) -> Json:
    """Take the first sentence of what is said of a route as its summary."""
    said = str(operation.get("description") or operation["summary"])
    first, _, rest = " ".join(said.split()).partition(". ")
    return {"summary": first.removesuffix("."), "description": rest or said}


def _responses(path: str, method: str, operation: Json) -> Json:
    """Return what an address may answer: what the table says, then the problems that its form allows."""
    known = ANSWERS.get(f"{method.upper()} {path.removeprefix(PREFIX)}")
    if known is None:  # of another's application: what its routes say
        return {status: each for status, each in operation["responses"].items() if status != "422"}
    found = known.as_responses()
    problems = {*map(HTTPStatus, known.problems), *_problems(path, method, operation)}
    for each in sorted(problems):
        status, problem = str(each.value), _problem(each)
        found[status] = _merged(found[status], problem) if status in found else problem
    return found


def _merged(answer: Json, problem: Json) -> Json:
    """Return what has one status for two reasons, such as 503."""
    return answer | problem | {"content": answer["content"] | problem["content"]}


def _problems(path: str, method: str, operation: Json) -> Iterator[HTTPStatus]:
    if not operation.get("security"):
        return
    yield from _KEYED
    names = {parameter["name"].lower() for parameter in operation.get("parameters", ())}
    if names or "requestBody" in operation:
        yield HTTPStatus.BAD_REQUEST
    if "requestBody" in operation:
        yield HTTPStatus.UNSUPPORTED_MEDIA_TYPE
    if "{" in path or "requestBody" in operation or "parent" in names:
        yield HTTPStatus.NOT_FOUND
    if "{run}" in path:
        yield HTTPStatus.GONE
    if method != "get":
        yield from (HTTPStatus.CONFLICT, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
    if "if-match" in names:
        yield HTTPStatus.PRECONDITION_FAILED


def _problem(status: HTTPStatus) -> Json:
    content = {MEDIA_TYPE: {"schema": components.reference("problem")}}
    return {"description": status.phrase, "content": content, **described(_HEADERS.get(status, ()))}


def _schemas(document: Json) -> Json:
    """Return all schemas; a body is named as one, for answers have the names of what they are."""
    made = document["components"]["schemas"]
    made = {name: each for name, each in made.items() if name not in ("HTTPValidationError", "ValidationError")}
    names = {name: name if name == "JsonValue" else f"{name}Body" for name in made}
    for _, _, operation in _operations(document):
        for each in operation.get("requestBody", {}).get("content", {}).values():
            each["schema"] = _renamed(each["schema"], names)
    bodies = {names[name]: _renamed(each, names) for name, each in made.items()}
    return bodies | components.used_in(document["paths"])


def _renamed(value: Any, names: Json) -> Any:
    """Return a schema whose references are to other names."""
    match value:
        case {"$ref": str(target)}:
            found = re.sub(r"[^/]+$", lambda last: names.get(last[0], last[0]), target)
            return {**value, "$ref": found}
        case dict():
            return {key: _renamed(each, names) for key, each in value.items()}
        case list():
            return [_renamed(each, names) for each in value]
        case _:
            return value


def _add_examples(document: Json) -> None:
    """Put the examples where they belong: beside each body, each answer and each problem."""
    known = components.examples()
    for _, _, operation in _operations(document):
        for kind in operation.get("requestBody", {}).get("content", {}).values():
            _add_example(kind, known, _target(kind))
        for status, said in operation["responses"].items():
            for media_type, kind in said.get("content", {}).items():
                name = status if media_type == MEDIA_TYPE else _target(kind)
                _add_example(kind, known, name)


def _shared(document: Json) -> Json:
    """Take out the answers that are nothing but a problem, which most addresses share; returns them by their names."""
    shared: Json = {}
    for _, _, operation in _operations(document):
        for status, said in operation["responses"].items():
            if said.get("content", {}).keys() == {MEDIA_TYPE}:
                name = HTTPStatus(int(status)).name.title().replace("_", "")
                shared[name] = said
                operation["responses"][status] = {"$ref": f"#/components/responses/{name}"}
    return {name: shared[name] for name in sorted(shared)}


def _target(kind: Json) -> str:
    return str(kind["schema"].get("$ref", "")).removeprefix("#/components/schemas/")


def _add_example(kind: Json, known: Json, name: str) -> None:
    if name in known:
        kind["example"] = known[name]
