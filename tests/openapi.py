"""Holds real answers against the description of the API: known status, known media type, the schema's shape."""

from __future__ import annotations

import re
from functools import cache
from http import HTTPStatus
from typing import Any

import httpx2
from jsonschema import Draft202012Validator

from agentflow.api.app import make_app
from agentflow.api.description import describe
from agentflow.api.page import responses
from agentflow.settings import Settings

BASE = "/api/v1"


@cache
def description() -> dict[str, Any]:
    """The description, which is the same for every installation."""
    return describe(make_app(Settings.model_validate({"database_url": "postgresql://a@b/c", "redis_url": "redis://b"})))


def check(response: httpx2.Response) -> None:
    """Fail where an answer is not one that its address is described with; unknown addresses answer 404 or 405."""
    is_head = response.request.method == "HEAD"  # which is described by the GET of the address
    operation = _operation("GET" if is_head else response.request.method, response.request.url.path)
    if operation is None or (is_head and response.status_code == HTTPStatus.METHOD_NOT_ALLOWED):
        assert response.status_code in (404, 405, 413), response
        return
    told = operation["responses"].get(str(response.status_code))
    assert told is not None, f"{response} is not described; these are: {list(operation['responses'])}"
    kind = response.headers.get("content-type", "").partition(";")[0]
    content = told.get("content", {})
    if not content:
        assert not kind, f"{response} has a body of {kind}"
        return
    assert kind in content, f"{response} is {kind}; described are {list(content)}"
    _check_headers(response, told)
    if is_head:
        return
    if kind.endswith("json"):
        response.read()
        if "$ref" in content[kind]["schema"]:  # else its route is not in the table, which another test tells
            check_shape(response.json(), content[kind]["schema"])


def check_shape(value: Any, schema: dict[str, Any]) -> None:
    """Fail where a value is not of a schema of the description."""
    faults = [
        f"{list(each.absolute_path)}: {each.message[:300]}" for each in _validator(schema["$ref"]).iter_errors(value)
    ]
    assert not faults, (schema, faults)


def _check_headers(response: httpx2.Response, told: dict[str, Any]) -> None:
    if response.status_code in (201, 401, 429):
        missing = [name for name in told.get("headers", {}) if name not in response.headers]
        assert not missing, f"{response} has no {missing}"


def _operation(method: str, path: str) -> dict[str, Any] | None:
    for template, methods in _templates():
        if template.fullmatch(path) and method.lower() in methods:
            found: dict[str, Any] = methods[method.lower()]
            return found | {"responses": responses(description(), found)}
    return None


@cache
def _templates() -> list[tuple[re.Pattern[str], dict[str, Any]]]:
    """The paths, those without variables first, as routes of the same prefix are tried."""
    paths = sorted(description()["paths"].items(), key=lambda each: (each[0].count("{"), "{name}" in each[0]))
    return [(re.compile(_pattern(path)), methods) for path, methods in paths]


def _pattern(path: str) -> str:
    """A name of an artifact may have slashes; nothing else in a path has."""
    parts = ["[^/]+" if part.startswith("{") else re.escape(part) for part in path.split("/")]
    if path.endswith("/artifacts/{name}"):
        parts[-1] = ".+"
    return "/".join(parts)


@cache
def _validator(reference: str) -> Draft202012Validator:
    whole = {"$ref": reference, "components": _closed(description()["components"])}
    return Draft202012Validator(whole, format_checker=Draft202012Validator.FORMAT_CHECKER)


def _closed(schema: Any) -> Any:
    """The schemas with no room for fields that they do not name: what is answered must be described."""
    match schema:
        case dict():
            closed = {key: _closed(each) for key, each in schema.items()}
            is_object = schema.get("type") == "object" and isinstance(schema.get("properties"), dict)
            return {"additionalProperties": False, **closed} if is_object else closed
        case list():
            return [_closed(each) for each in schema]
        case _:
            return schema
