"""Several processes of the API at one address: each has its share of the callers, and one that dies is replaced."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import httpx2
import pytest

from agentflow.settings import Settings
from tests.factories import wait_for
from tests.integration.api.conftest import TLS
from tests.workers import descendants, environment_of

CALLERS = 60
"""Of so many, dealt at random, none is left to one of two processes once in 10^18."""
_ASK = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


@pytest.fixture
def port() -> int:
    """A port at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


@pytest.fixture
def command(port: int) -> list[str]:
    """What starts two processes."""
    return [sys.executable, "-m", "agentflow", "api", "--port", str(port), "--processes", "2"]


@pytest.fixture
def api(command: list[str], settings: Settings, tmp_path: Path) -> Iterator[int]:
    """The process above the two that answer, once both do; killed at the end, which ends them too."""
    said = tmp_path / "said"
    with (
        said.open("wb") as output,
        subprocess.Popen(command, env=environment_of(settings, tmp_path), cwd=tmp_path, stderr=output) as started,
    ):
        try:
            assert wait_for(lambda: "The API answers" in said.read_text(), 60)
            yield started.pid
        finally:
            started.kill()


def _lives(port: int) -> bool:
    with suppress(httpx2.TransportError):
        return httpx2.get(f"http://127.0.0.1:{port}/livez", verify=TLS).status_code == 200
    return False


def _connections(pid: int) -> int:
    links = []
    with suppress(OSError):
        for each in Path(f"/proc/{pid}/fd").iterdir():
            with suppress(OSError):
                links.append(each.readlink().name)
    return sum(link.startswith("socket:") for link in links)


def _serving(api: int) -> list[int]:
    """The processes that answer: those that listen beside the one above them."""
    return [pid for pid in descendants(api) if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def test_callers_that_come_at_once_are_dealt_out_and_a_process_that_dies_takes_no_others_along(
    api: int, command: list[str], port: int, settings: Settings, tmp_path: Path
) -> None:
    assert len(_serving(api)) == 2
    before = {pid: _connections(pid) for pid in _serving(api)}
    with ExitStack() as opened:
        callers = [opened.enter_context(socket.create_connection(("127.0.0.1", port), 60)) for _ in range(CALLERS)]
        for caller in callers:
            caller.sendall(_ASK)
        assert all(caller.recv(1 << 12).startswith(b"HTTP/1.1 200") for caller in callers)
        shares = [_connections(pid) - had for pid, had in before.items()]
        assert min(shares) > 0, shares

    os.kill(next(iter(before)), signal.SIGKILL)

    assert wait_for(lambda: len(set(_serving(api)) - set(before)) == 1, 60)
    assert wait_for(lambda: all(_lives(port) for _ in range(20)), 60)
    another = subprocess.run(
        command, env=environment_of(settings, tmp_path), cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert another.returncode == 2
    assert f"port {port}" in another.stderr
