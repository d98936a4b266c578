"""What a process of the API is from its start on: how it logs, and whose word it takes for a caller's address."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, cast

import pytest
from fastapi import FastAPI
from starlette.types import Message, Receive, Scope, Send

from agentflow.api.serve import _config
from agentflow.settings import Settings
from tests.workers import REPOSITORY

SERVERS = {"database_url": "postgresql://a@127.0.0.1:1/b", "redis_url": "redis://127.0.0.1:1"}
PROXY, CALLER = "198.51.100.2", "203.0.113.7"
LINES = """
import logging, os, signal
from agentflow.api.serve import from_environment, serve
from agentflow.settings import load_settings
from agentflow.telemetry import get_logger

def log():
    try:
        raise ValueError("postgresql://me:SENTINEL@h/b")
    except ValueError:
        get_logger("agentflow.test").error("request_failed", exc_info=True)
        logging.getLogger("uvicorn.error").error("password=SENTINEL")
        logging.getLogger("sse_starlette.sse").info("chunk: SENTINEL")

"""
ALONE = """
def tell():
    log()
    os.kill(os.getpid(), signal.SIGTERM)

serve(load_settings(), "127.0.0.1", 0, tell)
"""
ONE_OF_SEVERAL = """
from_environment()
log()
"""


@pytest.mark.parametrize("process", [ALONE, ONE_OF_SEVERAL], ids=["alone", "one of several"])
def test_every_process_logs_as_its_settings_say(process: str, tmp_path: Path) -> None:
    environment = {f"AGENTFLOW_{name.upper()}": value for name, value in SERVERS.items()}
    environment |= {"PATH": os.environ["PATH"], "PYTHONPATH": str(REPOSITORY), "HOME": str(tmp_path)}

    ended = subprocess.run(
        [sys.executable, "-c", LINES + process],
        env=environment | {"AGENTFLOW_LOG_FORMAT": "json"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )

    lines = [json.loads(line) for line in ended.stderr.splitlines()]
    assert [line["event"] for line in lines] == ["request_failed", "password=[REDACTED_PASSWORD]"]
    assert "ValueError" in lines[0]["exception"]
    assert "SENTINEL" not in ended.stderr


@pytest.mark.parametrize(
    ("trusted", "seen"),
    [("", PROXY), (PROXY, CALLER), ("198.51.100.0/24, 10.0.0.0/8", CALLER), ("127.0.0.1", PROXY)],
)
def test_only_a_proxy_that_is_named_says_whose_address_a_caller_has(trusted: str, seen: str) -> None:
    found: list[str] = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        found.append(scope["client"][0])

    async def nothing(*_: Any) -> Message:
        return {}

    config = _config(Settings.model_validate(SERVERS | {"api_trusted_proxies": trusted}), cast("FastAPI", app))
    config.load()
    headers = [(b"x-forwarded-for", CALLER.encode())]
    asyncio.run(config.loaded_app({"type": "http", "client": (PROXY, 1), "headers": headers}, nothing, nothing))

    assert found == [seen]
