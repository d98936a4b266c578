"""A real Flower process under test, asked through its HTTP API."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from base64 import b64encode
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from agentflow.settings import Settings
from tests.factories import wait_for
from tests.workers import WorkerProcess, environment_of

USER = "operator:flower-password"
START_SECONDS = 60


class FlowerProcess:
    """`agentflow flower` on a free port of 127.0.0.1, in a working directory of its own."""

    def __init__(
        self, settings: Settings, folder: Path, *arguments: str, environment: Mapping[str, str] | None = None
    ) -> None:
        self.cwd = folder / "flower-cwd"
        self.cwd.mkdir(exist_ok=True)
        self.log = folder / "flower.log"
        self.process = subprocess.Popen(
            [sys.executable, "-m", "agentflow", "flower", "--port=0", *arguments],
            cwd=self.cwd,
            env={
                **environment_of(settings, self.cwd),
                "AGENTFLOW_FLOWER_BASIC_AUTH": USER,
                **(environment or {}),
            },
            stdout=self.log.open("wb"),
            stderr=subprocess.STDOUT,
        )

    @cached_property
    def url(self) -> str:
        """Where it serves, once it does; its log is the error if it ends before."""
        found: str = wait_for(self._url, START_SECONDS)
        return found

    def wait_until_it_hears(self, worker: WorkerProcess) -> None:
        """Wait until an event of the worker has come; before that, what a step does may be missed."""
        wait_for(lambda: any(name.startswith(worker.name) for name, is_alive in self._heard().items() if is_alive))

    def _heard(self) -> dict[str, bool]:
        heard: dict[str, bool] = self.ask("/api/workers?status=true")
        return heard

    def output(self) -> str:
        """What it has written so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def tasks(self) -> dict[str, dict[str, Any]]:
        """The task list, by task id."""
        listed: dict[str, dict[str, Any]] = self.ask("/api/tasks")
        return listed

    def task(self, task_id: object) -> dict[str, Any] | None:
        """What it says of one task; None when it never heard of it."""
        try:
            info: dict[str, Any] = self.ask(f"/api/task/info/{task_id}")
        except urllib.error.HTTPError as error:
            if error.code == 404:
                return None
            raise
        return info

    def wait_for_state(self, task_id: object, state: str, seconds: float = 10) -> dict[str, Any]:
        """Wait until a task is shown in a state; the last answer is the error."""
        deadline = time.monotonic() + seconds
        while (found := self.task(task_id)) is None or found["state"] != state:
            if time.monotonic() > deadline:
                raise AssertionError(f"Flower does not show {state} but {found}")
            time.sleep(0.05)
        return found

    def revoke(self, task_id: object, *, terminate: bool = False) -> None:
        """Revoke a task as its page does."""
        query = "?terminate=true" if terminate else ""
        self.ask(f"/api/task/revoke/{task_id}{query}", data=b"")

    def ask(self, path: str, *, data: bytes | None = None) -> Any:
        """Ask with the operator's password; HTTPError as urllib raises it."""
        request = urllib.request.Request(self.url + path, data=data)  # noqa: S310 - our own server on 127.0.0.1
        request.add_header("Authorization", "Basic " + b64encode(USER.encode()).decode())
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            body = answer.read().decode()
        return json.loads(body) if body.startswith(("{", "[")) else body

    def stop(self) -> int:
        """Stop it as a deploy does; returns the exit code."""
        self.process.terminate()
        return self.process.wait(15)

    def kill(self) -> None:
        """Kill it; nothing happens when it has ended."""
        self.process.kill()
        self.process.wait(10)

    def _url(self) -> str | None:
        output = self.output()
        if self.process.poll() is not None:
            raise AssertionError(f"Flower ended with {self.process.returncode}:\n{output}")
        found = re.search(r"Visit me at (http://\S+?)/?\s", output)
        return found.group(1) if found else None
