"""The guard: whoever shows no key is refused before any of his body is read, and the throttle comes before both."""

from __future__ import annotations

import asyncio
import json
from functools import cache
from typing import Any

import pytest
from anyio import fail_after, to_thread
from fastapi import FastAPI
from starlette.types import Message

from agentflow.api.app import make_app
from agentflow.settings import Settings

KEY = f"af_{'0' * 12}_{'a' * 43}"
"""What looks like a key."""
AWAY = {
    "database_url": "postgresql://a@127.0.0.1:1/b",
    "redis_url": "redis://127.0.0.1:1",
    "audit_key": "k" * 32,  # else one is made in the home of whoever runs this
}


@cache
def _app(**others: Any) -> FastAPI:
    """An application whose servers are not there."""
    return make_app(Settings.model_validate(AWAY | others))


def _ask(app: FastAPI, method: str, path: str, **headers: str) -> tuple[int, dict[str, Any]]:
    """Ask for something with a body that nobody may read; returns the status and what is said."""
    return asyncio.run(_answer(app, method, path, **headers))


async def _answer(app: FastAPI, method: str, path: str, **headers: str) -> tuple[int, dict[str, Any]]:
    told: list[Message] = []

    async def receive() -> Message:
        raise AssertionError("the body was read")

    async def send(message: Message) -> None:
        told.append(message)

    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "scheme": "http",
        "query_string": b"",
        "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        "client": ("203.0.113.7", 1),
        "server": ("127.0.0.1", 80),
    }
    await app(scope, receive, send)
    return told[0]["status"], json.loads(b"".join(message.get("body", b"") for message in told[1:]))


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/api/v1/runs", "detail"),
        ("/api/v1/runs/@last/cancel", "detail"),
        ("/api/agent-runs/launch/", "error"),
        ("/mcp", "detail"),
    ],
)
@pytest.mark.parametrize("shown", ["", "Basic YTpi", "Bearer", "Bearer af_none"])
def test_no_body_is_read_of_whoever_shows_no_key(path: str, said: str, shown: str) -> None:
    headers = {"content-type": "application/json", "content-length": "17000000", "authorization": shown}

    status, answer = _ask(_app(), "POST", path, **headers)

    assert status == 401
    assert "key" in answer[said]


@pytest.mark.parametrize("path", ["/", "/metrics", "/api/v1/nowhere"])
def test_where_nothing_is_served_it_is_said_where_something_is(path: str) -> None:
    status, answer = _ask(_app(), "GET", path)

    assert (status, answer["code"]) == (404, "not_found")
    assert "/api/v1/docs" in answer["detail"]
    assert "/api/v1/metrics" in answer["detail"]


def test_no_body_is_read_of_an_address_that_asks_too_often() -> None:
    app = _app(api_requests_per_minute=1)

    statuses = [_ask(app, "POST", "/api/v1/runs")[0] for _ in range(4)]

    assert statuses[0] == 401
    assert statuses[-1] == 429


def test_that_it_lives_is_told_while_every_thread_waits() -> None:
    async def ask() -> tuple[int, dict[str, Any]]:
        threads = to_thread.current_default_thread_limiter()
        held = [object() for _ in range(int(threads.total_tokens))]
        for each in held:
            threads.acquire_on_behalf_of_nowait(each)
        with fail_after(10):
            return await _answer(_app(), "GET", "/livez")

    assert asyncio.run(ask()) == (200, {"status": "ok"})


def test_that_the_database_is_away_is_told_while_every_thread_waits() -> None:
    async def ask() -> tuple[int, dict[str, Any]]:
        threads = to_thread.current_default_thread_limiter()
        for _ in range(int(threads.total_tokens)):
            threads.acquire_on_behalf_of_nowait(object())
        with fail_after(30):
            return await _answer(_app(), "GET", "/api/v1/health/ready", authorization=f"Bearer {KEY}")

    status, problem = asyncio.run(ask())

    assert (status, problem["code"], problem["details"]) == (503, "servers_unreachable", {"component": "database"})
