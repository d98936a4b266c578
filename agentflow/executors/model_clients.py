"""The clients of providers and the models of this process: made at first use, kept, and dropped after a fork.

Owns how a credential becomes a model of pydantic-ai, and what is seen of a request on its way: whether it had begun to
leave, and whether its answer grew too large. Their own retries, time-outs, traces and chatty logs are off here.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import threading
import warnings
import weakref
from collections.abc import AsyncIterator, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

from agentflow.executors.base import Lifeline
from agentflow.executors.call_loop import CallLoop, call_loop
from agentflow.executors.providers import Credential, ProviderKind

if TYPE_CHECKING:
    from httpx2 import AsyncByteStream, AsyncClient, Request, Response, Timeout
    from pydantic_ai.models import Model

_CHATTY = ("pydantic_ai", "openai", "anthropic", "httpx", "httpx2", "httpcore", "httpcore2")
_CONNECTIONS, _IDLE_CONNECTIONS = 1000, 100
_ESCAPED_BYTES = 6  # the longest that JSON writes a byte of text
_ENVELOPE_BYTES = 1024 * 1024
_CONNECT_SECONDS = 15.0
_CLOSE_SECONDS = 5.0
_NO_KEY = "none"  # the client takes no empty key; a server that needs none does not look


class Sending:
    """What is known of one request on its way; set on the loop, read by the thread that waits."""

    def __init__(self, limit_bytes: int) -> None:
        self.has_begun = False
        """Whether its first byte may have left. A connection that is being made does not count."""
        self.is_too_large = False
        self.wire_limit_bytes = limit_bytes * _ESCAPED_BYTES + _ENVELOPE_BYTES

    async def trace(self, event: str, _info: Mapping[str, Any]) -> None:
        """Hear the transport."""
        if event.endswith("send_request_headers.started"):
            self.has_begun = True


sending: ContextVar[Sending | None] = ContextVar("sending", default=None)
"""The request that the current task makes."""


class ModelClients:
    """The models of one process; safe to use from any thread and across forks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: CallLoop | None = None
        self._transports: dict[Credential, AsyncClient] = {}
        self._models: dict[tuple[Credential, str], Model[Any]] = {}
        _all.add(self)

    def model(self, credential: Credential, name: str) -> Model[Any]:
        """Return the model ``name`` of a provider, for calls on this process's loop."""
        with self._lock:
            if self._loop is not call_loop():
                self._loop, self._transports, self._models = call_loop(), {}, {}
            key = (credential, name)
            if key not in self._models:
                self._models[key] = self._make(credential, name)
            return self._models[key]

    def close(self) -> None:
        """Close every connection."""
        with self._lock:
            loop, transports = self._loop, list(self._transports.values())
            self._loop, self._transports, self._models = None, {}, {}
        if loop is not None and loop.is_usable:
            for transport in transports:
                loop.run(transport.aclose, Lifeline(_CLOSE_SECONDS), _CLOSE_SECONDS)

    def forget(self) -> None:
        """After a fork, in the child: let go of the parent's connections without touching them."""
        _left_behind.append((self._transports, self._models))
        self._lock = threading.Lock()  # another thread of the parent may have held the old one
        self._loop, self._transports, self._models = None, {}, {}

    def _make(self, credential: Credential, name: str) -> Model[Any]:
        if credential not in self._transports:
            self._transports[credential] = _transport(credential)
        transport = self._transports[credential]
        if credential.kind is ProviderKind.ANTHROPIC:
            model = _anthropic_model(credential, name, transport)
        else:
            model = _openai_model(credential, name, transport)
        _silence()
        return model


def _anthropic_model(credential: Credential, name: str, transport: AsyncClient) -> Model[Any]:
    from anthropic import AsyncAnthropic
    from pydantic_ai.models.anthropic import AnthropicModel
    from pydantic_ai.providers.anthropic import AnthropicProvider

    client = AsyncAnthropic(
        api_key=_key(credential),
        base_url=credential.base_url,
        http_client=transport,
        max_retries=0,
        timeout=_patience(),
        open_telemetry=False,
    )
    return AnthropicModel(name, provider=AnthropicProvider(anthropic_client=client))


def _openai_model(credential: Credential, name: str, transport: AsyncClient) -> Model[Any]:
    from openai import AsyncOpenAI
    from pydantic_ai.models.openai import OpenAIChatModel
    from pydantic_ai.profiles.openai import OpenAIModelProfile
    from pydantic_ai.providers.openai import OpenAIProvider
    from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider

    client = AsyncOpenAI(
        api_key=_key(credential),
        base_url=credential.base_url,
        http_client=transport,
        max_retries=0,
        timeout=_patience(),
    )
    if credential.kind is ProviderKind.OPENAI:
        return OpenAIChatModel(name, provider=OpenAIProvider(openai_client=client))
    client.organization = client.project = None  # the environment's, which are OpenAI's business only
    # Others know max_tokens for longer than its new name; one that overlooks the bound would break the budget.
    profile = OpenAIModelProfile(
        openai_chat_supports_max_completion_tokens=False,
        openai_supports_strict_tool_definition=False,
        supports_json_schema_output=True,
    )
    provider = OpenAICompatibleProvider(credential.id, openai_client=client, profile=profile)
    return OpenAIChatModel(name, provider=provider)


def _transport(credential: Credential) -> AsyncClient:
    from httpx2 import AsyncClient, Limits

    return AsyncClient(
        timeout=_patience(),
        limits=Limits(max_connections=_CONNECTIONS, max_keepalive_connections=_IDLE_CONNECTIONS),
        follow_redirects=False,  # a prompt goes to no other address than the one that was configured
        trust_env=not _is_loopback(credential.base_url),
        event_hooks={"request": [_watch_request], "response": [_watch_response]},
    )


def _patience() -> Timeout:
    """The call loop bounds the whole of a call; an address where nobody is must not take all of that."""
    from httpx2 import Timeout

    return Timeout(None, connect=_CONNECT_SECONDS)


async def _watch_request(request: Request) -> None:
    watched = sending.get()
    if watched is not None:
        request.extensions = {**request.extensions, "trace": watched.trace}


async def _watch_response(response: Response) -> None:
    watched = sending.get()
    if watched is not None:
        stream = cast("AsyncByteStream", response.stream)  # of an async client, whatever the type allows
        response.stream = _bounded(stream, watched)


def _bounded(stream: AsyncByteStream, watched: Sending) -> AsyncByteStream:
    from httpx2 import AsyncByteStream, ReadError

    class Bounded(AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            left = watched.wire_limit_bytes
            async for piece in stream:
                left -= len(piece)
                if left < 0:
                    watched.is_too_large = True
                    raise ReadError("too large")
                yield piece

        async def aclose(self) -> None:
            await stream.aclose()

    return Bounded()


def _key(credential: Credential) -> str:
    return credential.key.get_secret_value() if credential.key else _NO_KEY


def _is_loopback(base_url: str | None) -> bool:
    host = urlsplit(base_url or "").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _silence() -> None:
    """Below WARNING these loggers write requests and answers, and the environment may have turned them up."""
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)
    # Its words may quote what a provider sent in place of a count; our own reading treats that as unmeasured.
    warnings.filterwarnings("ignore", message="Failed to extract usage")


_all: weakref.WeakSet[ModelClients] = weakref.WeakSet()
_left_behind: list[Any] = []


def _forget_after_fork() -> None:
    for clients in _all:
        clients.forget()


os.register_at_fork(after_in_child=_forget_after_fork)
