"""The request of an http step, from its rendered action: checked, complete, and named without being told.

Owns what can be sent at all, the headers that the plan does not write, the hash of the request and the name of its
endpoint. Values here are rendered and may be secret: nothing of them may stand in an error, a log or a repr.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import httpx2

from agentflow.domain.action import HttpAction
from agentflow.domain.call import CallProblem
from agentflow.executors.base import Assignment
from agentflow.executors.guarded_network import is_host, literal_address
from agentflow.executors.providers import Credential

BODY_TEXT = "json"
_PORTS: Mapping[str, int] = {"http": 80, "https": 443}
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_OWN_HEADERS = frozenset({"connection", "content-length", "transfer-encoding"})
_BODY_METHODS = frozenset({"POST", "PUT", "PATCH"})


class UnusableRequestError(Exception):
    """The request cannot be made as it stands; ``problem`` says why, and nothing else does."""

    def __init__(self, problem: CallProblem) -> None:
        super().__init__(problem.value)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request that can be sent."""

    method: str
    scheme: str
    host: str = field(repr=False)
    port: int
    target: bytes = field(repr=False)
    headers: tuple[tuple[bytes, bytes], ...] = field(repr=False)
    body: bytes = field(repr=False)
    writes_host: bool
    """Whether the plan wrote the header Host: behind a shared front end the request may be another tenant's then."""
    sha256: str
    """Of method, url and body, the parts divided by a line feed; headers, which hold credentials, are not in it."""
    masks: tuple[str, ...] = field(default=(), repr=False)
    """What must not appear in anything that is kept of the answer, beside the plan's secrets."""

    @property
    def endpoint(self) -> str:
        """Whom it calls, without saying the name: a host may be rendered from what a step returned."""
        return "http:" + hashlib.sha256(f"{self.host}:{self.port}".encode()).hexdigest()[:16]


def authorised(request: HttpRequest, credential: Credential | CallProblem) -> HttpRequest:
    """Add a credential's key as a bearer token. Raises UnusableRequestError, also where the key belongs elsewhere."""
    if isinstance(credential, CallProblem):
        raise UnusableRequestError(credential)
    path = request.target.decode("ascii").partition("?")[0]
    # Dots are not resolved here but may be by the server: they could lead out of the credential's path.
    is_plain = "/." not in path and "%2e" not in path.lower()
    if (
        credential.key is None
        or request.writes_host
        or not is_plain
        or not credential.covers(request.scheme, request.host, request.port, path)
    ):
        raise UnusableRequestError(CallProblem.FOREIGN_CREDENTIAL)
    key = credential.key.get_secret_value()
    token = _encoded(f"Bearer {key}")
    others = tuple((name, value) for name, value in request.headers if name.lower() != b"authorization")
    return replace(request, headers=(*others, (b"Authorization", token)), masks=(key,))


def request_of(assignment: Assignment) -> HttpRequest:
    """Build the request of an attempt.

    Raises UnusableRequestError: BAD_URL, or REJECTED for headers or a body that cannot be sent. Raises TypeError for an
    action of another type.
    """
    action = assignment.action
    if not isinstance(action, HttpAction):
        raise TypeError(f"an http action is performed here, not {action.type!r}")
    url = _url(action.url)
    host = url.raw_host.decode("ascii").lower()
    body = _body(assignment.texts.get(BODY_TEXT))
    return HttpRequest(
        method=action.method,
        scheme=url.scheme,
        host=host,
        port=url.port or _PORTS[url.scheme],
        target=url.raw_path,
        headers=_headers(action, url, body),
        body=body or b"",
        writes_host=any(name.lower() == "host" for name in action.headers),
        sha256=hashlib.sha256(b"\n".join([action.method.encode(), str(url).encode(), body or b""])).hexdigest(),
    )


def _url(text: str) -> httpx2.URL:
    try:
        url = httpx2.URL(text)
    except (httpx2.InvalidURL, ValueError):
        raise UnusableRequestError(CallProblem.BAD_URL) from None  # its text quotes the url
    host = url.raw_host.decode("ascii").lower()
    is_named = is_host(host) or (literal_address(host) is not None and "%" not in host)
    has_port = url.port is None or 0 < url.port < 65536
    if url.scheme not in _PORTS or not is_named or not has_port or url.userinfo:
        raise UnusableRequestError(CallProblem.BAD_URL)
    return url


def _body(text: str | None) -> bytes | None:
    return None if text is None else _encoded(text)


def _headers(action: HttpAction, url: httpx2.URL, body: bytes | None) -> tuple[tuple[bytes, bytes], ...]:
    """The plan's headers and what they lack. Nothing is to be packed, and the connection serves this call only."""
    headers = {"Host": url.netloc, "User-Agent": b"agentflow", "Accept": b"*/*", "Accept-Encoding": b"identity"}
    if body is not None:
        headers["Content-Type"] = b"application/json"
    written = {name: _header(name, value) for name, value in action.headers.items()}
    taken = {name.lower() for name in written}
    framing = {"Connection": b"close"}
    if body is not None or action.method in _BODY_METHODS:
        framing["Content-Length"] = str(len(body or b"")).encode()
    added = {name: value for name, value in headers.items() if name.lower() not in taken}
    return tuple((name.encode(), value) for name, value in {**added, **written, **framing}.items())


def _header(name: str, value: str) -> bytes:
    """White space around a value goes: a credential from a file often ends in a line feed."""
    text = value.strip()
    if not _HEADER_NAME.fullmatch(name) or name.lower() in _OWN_HEADERS or _CONTROL.search(text):
        raise UnusableRequestError(CallProblem.REJECTED)
    return _encoded(text)


def _encoded(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:  # half a surrogate pair; the error holds the text
        raise UnusableRequestError(CallProblem.REJECTED) from None
