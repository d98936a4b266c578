"""The written form of a call to a service: ``http: {method, url, json, headers, credential, ok_status}``.

Owns reading it. ``json`` leaves the plan as content: the canonical JSON text of the value whose texts may be templates.
What a url leads to once it is rendered is the executor's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from pydantic import JsonValue

from agentflow.domain.action import ContentRef, HttpAction
from agentflow.domain.action_reading import ON_THE_STEP, ActionReading, Place
from agentflow.domain.document import Form, Value
from agentflow.domain.error import TemplateError
from agentflow.domain.template import has_expressions, split_template
from agentflow.domain.wording import shorten

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
WITHOUT_BODY = ("GET", "HEAD")
HTTP_FORM = Form(
    known=("method", "url", "json", "headers", "credential", "ok_status"), required=("url",), elsewhere=ON_THE_STEP
)
HEADER_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
"""A token of RFC 9110."""
CREDENTIAL_ID = r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}"
OWN_HEADERS = ("connection", "content-length", "transfer-encoding")
_HEADER_TEXT = re.compile(r"(?:[!-~](?:[ \t!-~]*[!-~])?)?")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")


def read_http(value: Value, reading: ActionReading) -> None:
    """Read ``http: {...}``."""
    fields = value.fields(HTTP_FORM)
    if fields is None:
        return
    before = len(value.faults)
    method = fields["method"].choice(METHODS) if "method" in fields else "GET"
    url = read_url(fields["url"], reading) if "url" in fields else None
    body = _read_json(fields["json"], reading, method) if "json" in fields else None
    headers = _read_headers(fields["headers"], reading) if "headers" in fields else {}
    credential = _read_credential(fields["credential"], headers) if "credential" in fields else None
    ok_status = _read_ok_status(fields["ok_status"]) if "ok_status" in fields else None
    if method and url and len(value.faults) == before:
        reading.action = HttpAction.model_validate(
            {
                "method": method,
                "url": url,
                "body": body,
                "headers": headers,
                "credential": credential,
                "ok_status": ok_status,
            }
        )


def read_url(value: Value, reading: ActionReading) -> str | None:
    """Read an address, which may be a template from its host on."""
    text = reading.template(Place.URL, value, value.text())
    if text is None:
        return None
    shape = _shape_of(text)
    if shape is not None and (problem := _url_problem(shape)) is not None:
        # Not quoted: what is wrong may be a password in it.
        value.fault("bad_url", f"{value.name} {problem}")
    return text


def _shape_of(text: str) -> str | None:
    """Return the url with a digit for each expression; None where it begins with one, so that its scheme is unknown."""
    if not has_expressions(text):
        return text
    try:
        pieces = split_template(text)
    except TemplateError:
        return None  # reported with the templates
    return "".join(each if isinstance(each, str) else "1" for each in pieces) if isinstance(pieces[0], str) else None


def _url_problem(url: str) -> str | None:
    if not url.startswith(("http://", "https://")):
        scheme = _SCHEME.match(url)
        found = f", not {shorten(scheme.group(), 20)}" if scheme else ""
        return f"must start with http:// or https://{found}"
    if " " in url or not url.isprintable():
        return "holds white space or an unprintable character: write %20 for a space"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        return "cannot be taken apart: its host or its port is malformed"
    if "@" in parts.netloc:
        return "holds a user or a password: declare a secret and send it in headers"
    return None if host else "names no host"


def _read_json(value: Value, reading: ActionReading, method: str | None) -> ContentRef | None:
    if method in WITHOUT_BODY:
        value.fault("json_needs_method", f"json is a body, and {method} has none: write method: POST, PUT or PATCH")
    before = len(value.faults)
    document = value.json()
    if len(value.faults) > before:
        return None
    note_templates(value, reading, Place.JSON)
    return reading.keep_content(canonical(document))


def canonical(document: JsonValue) -> str:
    """Return a JSON value as text: equal values, equal texts."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def note_templates(value: Value, reading: ActionReading, place: Place) -> None:
    """Note every text in plain data that is a template."""
    match value.value:
        case str():
            reading.template(place, value, value.value)
        case Mapping():
            for key, entry in (value.entries() or {}).items():
                if has_expressions(key):
                    what = f"the key {shorten(key)!r} of {place}"
                    entry.fault("bad_value", f"{what} cannot be a template: only values can")
                note_templates(entry, reading, place)
        case list() | tuple():
            for item in value.items() or ():
                note_templates(item, reading, place)
        case _:
            pass


def _read_headers(value: Value, reading: ActionReading) -> dict[str, str]:
    headers: dict[str, str] = {}
    seen: set[str] = set()
    for name, entry in (value.entries() or {}).items():
        if not re.fullmatch(HEADER_NAME, name):
            entry.fault("bad_header", f"{shorten(name)!r} is no name of a header: write one such as X-Request-Id")
        elif name.lower() in OWN_HEADERS:
            entry.fault("bad_header", f"the header {name} is set by agentflow: leave it out")
        elif name.lower() in seen:
            entry.fault("bad_header", f"the header {name} stands twice: capitals make no difference")
        seen.add(name.lower())
        text = reading.template(Place.HEADERS, entry, entry.argument())
        if text is not None:
            _check_header(entry, name, text)
            headers[name] = text
    return headers


def _check_header(value: Value, name: str, text: str) -> None:
    if "\r" in text or "\n" in text:
        value.fault("bad_header", f"the header {shorten(name)} holds a line break: one header is one line")
    elif not has_expressions(text) and not _HEADER_TEXT.fullmatch(text):
        value.fault(
            "bad_header", f"the header {shorten(name)} may hold visible ASCII characters, and spaces between them"
        )


def _read_credential(value: Value, headers: Mapping[str, str]) -> str | None:
    text = value.text()
    if text is not None and not re.fullmatch(CREDENTIAL_ID, text):
        value.fault("bad_id", f"{shorten(text)!r} is no id of a credential: write one of provider_credentials.yaml")
    names = {name.lower() for name in headers}
    if "authorization" in names:
        value.fault("bad_header", "credential is sent in the header Authorization: leave that header out")
    if "host" in names:
        value.fault("bad_header", "credential is sent to the host of url only: leave the header Host out")
    return text


def _read_ok_status(value: Value) -> tuple[int, ...]:
    items = value.items()
    if items == []:
        value.fault("bad_value", "ok_status is empty: no answer would be a success")
    return tuple(sorted({status for item in items or () if (status := item.integer(100, 599)) is not None}))
