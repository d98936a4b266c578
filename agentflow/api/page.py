"""The page on which the description is read: plain HTML made here, without a script and without another address.

Owns the page, its policy, and who may read it: a browser shows a key as a password, since it cannot show it otherwise.
"""

from __future__ import annotations

import json
import re
from base64 import b64encode
from functools import cache
from hashlib import sha256
from importlib import resources
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.security import HTTPBasic, HTTPBasicCredentials, HTTPBearer
from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup, escape

from agentflow.api.caller import Caller, caller_of, identify
from agentflow.domain.error import Unauthenticated

_METHODS = ("get", "put", "post", "delete", "patch")
_FOLDER = resources.files("agentflow").joinpath("api")
_STYLE = _FOLDER.joinpath("page.css").read_text(encoding="utf-8")
_bearer = HTTPBearer(auto_error=False)
_basic = HTTPBasic(auto_error=False)
POLICY = (
    f"default-src 'none'; style-src 'sha256-{b64encode(sha256(_STYLE.encode()).digest()).decode()}'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
"""What a browser may load for the page: nothing but its own style."""


class BrowserUnauthenticated(Unauthenticated):
    """No key was shown that opens the page; a browser may ask the person before it for one."""

    challenge = 'Bearer, Basic realm="a key of agentflow, as the password", charset="UTF-8"'


def _reader(
    request: Request,
    _: Annotated[object, Depends(_bearer)],
    basic: Annotated[HTTPBasicCredentials | None, Depends(_basic)],
) -> Caller:
    try:
        return caller_of(request.scope)
    except Unauthenticated as error:
        if basic is None:
            raise _asking(error) from None
    try:
        return identify(request.app.state.house, basic.password)
    except Unauthenticated as error:
        raise _asking(error) from None


def _asking(error: Unauthenticated) -> BrowserUnauthenticated:
    return BrowserUnauthenticated(str(error), **error.details)


_reader.__name__ = "is_viewer"  # as every dependency is named that asks for a role
PageReader = Annotated[Caller, Depends(_reader)]


def render(document: dict[str, Any]) -> str:
    """Return the page for a description."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for path, methods in document["paths"].items():
        for method in (each for each in _METHODS if each in methods):
            operation = methods[method] | {"responses": responses(document, methods[method])}
            groups.setdefault(operation.get("tags", [""])[0], []).append(
                {"path": path, "method": method.upper(), **operation}
            )
    return _template().render(document=document, groups=groups, style=_STYLE)


def responses(document: dict[str, Any], operation: dict[str, Any]) -> dict[str, Any]:
    """Return what an address may answer, by status, with what it shares with others."""
    shared = document["components"]["responses"]
    return {
        status: shared[said["$ref"].rpartition("/")[2]] if "$ref" in said else said
        for status, said in operation["responses"].items()
    }


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters["pretty"] = lambda value: json.dumps(value, indent=2, ensure_ascii=False)
    environment.filters["kind"] = _kind
    environment.filters["prose"] = _prose
    environment.filters["anchor"] = lambda name: name.replace(" ", "-")
    return environment.from_string(_FOLDER.joinpath("page.html.jinja").read_text(encoding="utf-8"))


def _prose(text: str) -> Markup:
    """Set what stands between backticks as code."""
    return Markup(re.sub("`{1,2}([^`]+)`{1,2}", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped before


def _kind(schema: dict[str, Any]) -> str:
    """Say in a word what a value is."""
    if "anyOf" in schema:
        return " or ".join(_kind(each) for each in schema["anyOf"] if each.get("type") != "null")
    if "enum" in schema:
        return ", ".join(map(str, schema["enum"]))
    return str(schema.get("format") or schema.get("type") or "any")
