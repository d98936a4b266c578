"""Owners in processes of their own, homes that every account can reach, and the search for processes left behind."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis

from agentflow.embedded import EmbeddedServers

OWNER_PROGRAM = Path(__file__).with_name("owner_program.py")

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root lends the servers another account")


def processes_of(home: Path) -> set[int]:
    """Every living process that has the home in its arguments, works in it or runs from it."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                places = f"{(entry / 'cwd').readlink()}\0{(entry / 'exe').readlink()}"
                if str(home) in f"{(entry / 'cmdline').read_text(errors='replace')}\0{places}":
                    found.add(int(entry.name))
    return found


def wait_until_gone(home: Path, seconds: float = 5.0) -> set[int]:
    """The processes of the home that are still there when the time is up; returns as soon as none is left."""
    deadline = time.monotonic() + seconds
    while (left := processes_of(home)) and time.monotonic() < deadline:
        time.sleep(0.02)  # they are no children of ours: their end gives no signal
    return left


@contextlib.contextmanager
def home_place() -> Iterator[Path]:
    """Where a home may be made; at the end no process of it may be left.

    Its name is longer than a socket's path may be, and holds what a command line or a configuration file must quote.
    """
    # pytest's own temporary directories are closed to the account that root lends the servers.
    directory = Path(tempfile.mkdtemp(prefix="agentflow-"))
    directory.chmod(0o755)
    try:
        yield directory / ("a long 'name' " * 8 + "home")
        assert not wait_until_gone(directory), "processes were left behind"
    finally:
        shutil.rmtree(directory)


class Owner:
    """A process that owns the servers of a home."""

    def __init__(self, home: Path, *options: str) -> None:
        command = [sys.executable, str(OWNER_PROGRAM), str(home), *options]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ready(self) -> dict[str, Any]:
        """What it says once its servers answer."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the owner ended before its servers were ready"
        facts: dict[str, Any] = json.loads(line)
        return facts

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()

    def close(self) -> int:
        """Let it stop its servers; its exit code."""
        self.process.communicate()
        return self.process.returncode


def store_something(database_url: str, redis_url: str) -> None:
    with psycopg.connect(database_url) as connection:
        connection.execute("CREATE TABLE IF NOT EXISTS kept (word text)")
        connection.execute("INSERT INTO kept VALUES ('here')")
    with redis.Redis.from_url(redis_url) as client:
        client.set("kept", "here")


def stored(servers: EmbeddedServers) -> tuple[str, str]:
    with psycopg.connect(servers.urls.database_url) as connection:
        row = connection.execute("SELECT DISTINCT word FROM kept").fetchone()
    with redis.Redis.from_url(servers.urls.redis_url, decode_responses=True) as client:
        return (row[0] if row else "", client.get("kept") or "")
