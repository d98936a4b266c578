"""A model server on localhost that behaves as told: by the model's name, or reply by reply.

It speaks OpenAI's chat completions (``/v1``) and Anthropic's messages (``/anthropic``), and records what came and when.
It runs in threads of the test's process and is reached by its address from any other.
"""

from __future__ import annotations

import json
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import yaml

ECHO = "echo: "
WAIT_SECONDS = 20


@dataclass(frozen=True)
class Usage:
    """What the stub says that a call used; cached is part of prompt, reasoning of completion."""

    prompt: int = 20
    completion: int = 10
    cached: int = 0
    reasoning: int = 0


@dataclass(frozen=True)
class Reply:
    """How one request is answered.

    ``text`` None echoes the last message. ``error`` is the error object that goes with a status of 400 or more.
    ``raw`` replaces the whole body. ``cut_after`` sends only so many bytes of the body and closes; -1 closes before the
    status line. ``is_hanging`` takes the request and never answers.
    """

    status: int = 200
    text: str | None = None
    usage: Usage | None = Usage()
    finish_reason: str = "stop"
    delay_seconds: float = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    error: Mapping[str, Any] | None = None
    raw: bytes | None = None
    content_type: str = "application/json"
    cut_after: int | None = None
    is_hanging: bool = False


def failing(status: int, message: str = "the stub says no", code: str | None = None, **error: Any) -> Reply:
    """A reply with an error, in the words that providers use; ``retry_after`` becomes the header."""
    retry_after = error.pop("retry_after", None)
    kind = error.pop("type", "invalid_request_error")
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return Reply(status, headers=headers, error={"message": message, "type": kind, "code": code, **error})


BY_MODEL: Mapping[str, Reply] = {
    "ok": Reply(),
    "one-second": Reply(delay_seconds=1),
    "rate-limited": failing(429, code="rate_limit_exceeded", retry_after=7),
    "no-quota": failing(429, code="insufficient_quota", type="insufficient_quota"),
    "broken": failing(500, type="server_error"),
    "unavailable": failing(503, type="server_error", retry_after=3),
    "overloaded": failing(529, type="overloaded_error", retry_after=5),
    "no-key": failing(401, code="invalid_api_key"),
    "forbidden": failing(403),
    "missing": failing(404, code="model_not_found"),
    "rejected": failing(400),
    "too-long": failing(400, code="context_length_exceeded"),
    "too-long-llama": failing(400, type="exceed_context_size_error", n_prompt_tokens=9000, n_ctx=2048),
    "hanging": Reply(is_hanging=True),
    "cut": Reply(text="a" * 2000, cut_after=700),
    "dropped": Reply(cut_after=-1),
    "malformed": Reply(raw=b'{"id": "chatcmpl-1", "choices": [{"mess'),
    "html": Reply(raw=b"<html>a proxy's page</html>", content_type="text/html"),
    "no-usage": Reply(usage=None),
    "at-length": Reply(text="it goes on and", finish_reason="length"),
    "filtered": Reply(text="", finish_reason="content_filter"),
    "unschematic": Reply(text='{"count": "many"}'),
}
"""What each model's name does, besides those that a test adds to ``ModelStub.replies``."""


@dataclass(eq=False)
class Arrival:
    """One request as it came."""

    path: str
    body: dict[str, Any]
    headers: Mapping[str, str]
    monotonic: float
    wall: float
    is_abandoned: threading.Event = field(default_factory=threading.Event)
    """Set when the other side closed the connection before it was answered."""
    is_answered: threading.Event = field(default_factory=threading.Event)

    @property
    def model(self) -> str:
        """The model that was asked."""
        return str(self.body.get("model"))


class ModelStub:
    """The server; use it as a context manager."""

    def __init__(self) -> None:
        self.replies: dict[str, Reply] = dict(BY_MODEL)
        self.arrivals: list[Arrival] = []
        self.most_in_flight = 0
        self.in_flight = 0
        self.is_closing = False
        self._queue: deque[Reply] = deque()
        self._changed = threading.Condition()
        self._connections: set[socket.socket] = set()
        self._server = _Server(("127.0.0.1", 0), self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), name="model-stub", daemon=True)
        self._thread.start()

    @property
    def host(self) -> str:
        """Where it listens, with the port."""
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def base_url(self) -> str:
        """The address of its OpenAI side."""
        return f"http://{self.host}/v1"

    @property
    def anthropic_url(self) -> str:
        """The address of its Anthropic side."""
        return f"http://{self.host}/anthropic"

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    def queue(self, *replies: Reply) -> None:
        """Answer the next requests so, whatever their model; then by the model's name again."""
        with self._changed:
            self._queue.extend(replies)

    def forget(self) -> None:
        """Forget what came and what was set, as if it were new."""
        with self._changed:
            self.replies = dict(BY_MODEL)
            self.arrivals.clear()
            self._queue.clear()
            self.most_in_flight = 0

    def wait_for_arrivals(self, count: int) -> list[Arrival]:
        """Wait until ``count`` requests have come."""
        return self._wait(lambda: len(self.arrivals) >= count)

    def wait_for_connections(self, count: int) -> bool:
        """Wait until ``count`` connections are open."""
        self._wait(lambda: len(self._connections) == count)
        return True

    def wait_until_idle(self) -> list[Arrival]:
        """Wait until no request is in flight."""
        return self._wait(lambda: self.in_flight == 0)

    def credentials_file(self, folder: Path, *more: Mapping[str, Any]) -> Path:
        """Write provider credentials that make this server known as ``stub`` and ``stub-anthropic``."""
        path = folder / "provider_credentials.yaml"
        stub = {"id": "stub", "provider": "openai-compatible", "config": {"base_url": self.base_url}}
        key = folder / "stub-anthropic-key"
        key.write_text("stub-key\n")
        key.chmod(0o600)
        anthropic = {
            "id": "stub-anthropic",
            "provider": "anthropic",
            "auth": {"type": "api_key", "source": "file", "file_path": str(key)},
            "config": {"base_url": self.anthropic_url},
        }
        path.write_text(yaml.safe_dump([stub, anthropic, *(dict(each) for each in more)]))
        return path

    def environment(self, folder: Path) -> dict[str, str]:
        """The environment with which a process of agentflow knows this server as ``stub``."""
        return {"AGENTFLOW_PROVIDER_CREDENTIALS": str(self.credentials_file(folder))}

    def close(self) -> None:
        """Stop listening and close every connection, also those of hanging requests."""
        self.is_closing = True
        self._server.shutdown()
        self._server.server_close()
        with self._changed:
            for connection in self._connections:
                _shut(connection)
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _wait(self, condition: Callable[[], bool]) -> list[Arrival]:
        with self._changed:
            assert self._changed.wait_for(condition, WAIT_SECONDS), f"{len(self.arrivals)} requests came"
            return list(self.arrivals)

    def enter(self, arrival: Arrival) -> Reply:
        """Record a request and say how to answer it."""
        with self._changed:
            self.arrivals.append(arrival)
            self.in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self.in_flight)
            self._changed.notify_all()
            if self._queue:
                return self._queue.popleft()
            return self.replies.get(arrival.model) or failing(404, code="model_not_found")

    def leave(self) -> None:
        """Record that a request is over."""
        with self._changed:
            self.in_flight -= 1
            self._changed.notify_all()

    def keep(self, connection: socket.socket) -> None:
        """Remember a connection, so that it can be closed."""
        with self._changed:
            self._connections.add(connection)

    def drop(self, connection: socket.socket) -> None:
        """Forget a connection."""
        with self._changed:
            self._connections.discard(connection)
            self._changed.notify_all()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 512

    def __init__(self, address: tuple[str, int], stub: ModelStub) -> None:
        self.stub = stub
        super().__init__(address, _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no error here."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server.stub.keep(self.connection)

    def finish(self) -> None:
        self.server.stub.drop(self.connection)
        super().finish()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the standard library
        """Nothing is written."""

    def do_POST(self) -> None:
        stub = self.server.stub
        monotonic, wall = time.monotonic(), time.time()
        body = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
        arrival = Arrival(self.path, body, {key.lower(): value for key, value in self.headers.items()}, monotonic, wall)
        reply = stub.enter(arrival)
        try:
            if self._wait(reply):
                arrival.is_abandoned.set()
                self.close_connection = True
            else:
                self._answer(arrival, reply)
                arrival.is_answered.set()
        finally:
            stub.leave()

    def _wait(self, reply: Reply) -> bool:
        """Wait as the reply says; True if the other side, or this server, closed the connection meanwhile."""
        if not (reply.is_hanging or reply.delay_seconds):
            return False
        poller = select.poll()  # unlike select it takes any number of a file
        poller.register(self.connection, select.POLLIN)
        ready = poller.poll(None if reply.is_hanging else reply.delay_seconds * 1000)
        return bool(ready)

    def _answer(self, arrival: Arrival, reply: Reply) -> None:
        body = reply.raw if reply.raw is not None else json.dumps(_body_of(arrival, reply)).encode()
        if reply.cut_after == -1:
            _shut(self.connection)
            self.close_connection = True
            return
        self.send_response(reply.status)
        for name, value in {"Content-Type": reply.content_type, "Content-Length": len(body), **reply.headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body[: reply.cut_after])
        if reply.cut_after is not None:
            self.wfile.flush()
            _shut(self.connection)
            self.close_connection = True


def _shut(connection: socket.socket) -> None:
    try:
        connection.shutdown(socket.SHUT_RDWR)
    except OSError:  # the other side was first
        return


def _body_of(arrival: Arrival, reply: Reply) -> dict[str, Any]:
    is_anthropic = arrival.path.startswith("/anthropic")
    if reply.error is not None:
        return {"type": "error", "error": dict(reply.error)}
    if reply.text is None:
        reply = replace(reply, text=ECHO + _last_message(arrival.body))
    return _message(arrival.model, reply) if is_anthropic else _completion(arrival.model, reply)


def _last_message(body: dict[str, Any]) -> str:
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def _completion(model: str, reply: Reply) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "id": "chatcmpl-stub",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": model,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": reply.text},
                "finish_reason": reply.finish_reason,
            }
        ],
    }
    if reply.usage is not None:
        answer["usage"] = {
            "prompt_tokens": reply.usage.prompt,
            "completion_tokens": reply.usage.completion,
            "total_tokens": reply.usage.prompt + reply.usage.completion,
            "prompt_tokens_details": {"cached_tokens": reply.usage.cached},
            "completion_tokens_details": {"reasoning_tokens": reply.usage.reasoning},
        }
    return answer


_STOP_REASONS = {"stop": "end_turn", "length": "max_tokens", "content_filter": "refusal"}


def _message(model: str, reply: Reply) -> dict[str, Any]:
    answer: dict[str, Any] = {
        "id": "msg-stub",
        "type": "message",
        "role": "assistant",
        "model": model,
        "content": [{"type": "text", "text": reply.text}],
        "stop_reason": _STOP_REASONS.get(reply.finish_reason, reply.finish_reason),
        "stop_sequence": None,
    }
    if reply.usage is not None:
        answer["usage"] = {
            "input_tokens": reply.usage.prompt - reply.usage.cached,  # Anthropic counts what is cached apart
            "cache_read_input_tokens": reply.usage.cached,
            "output_tokens": reply.usage.completion,
        }
    return answer
