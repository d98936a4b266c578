"""compose.yaml as a container engine reads it, and its services as processes here, with other paths and ports."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.workers import REPOSITORY

_VARIABLE = re.compile(r"\$\$|\$\{(\w+):-([^}]*)\}")


def read_compose(**variables: str) -> dict[str, Any]:
    """Read the file; ``variables`` stand for those of the shell or of .env, all others have their defaults."""
    text = (REPOSITORY / "compose.yaml").read_text(encoding="utf-8")
    loaded: dict[str, Any] = yaml.safe_load(text)
    read: dict[str, Any] = _interpolated(loaded, variables)
    return read


def _interpolated(value: Any, variables: Mapping[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: _interpolated(each, variables) for key, each in value.items()}
    if isinstance(value, list):
        return [_interpolated(each, variables) for each in value]
    if not isinstance(value, str):
        return value
    left = _VARIABLE.sub("", value)
    assert "$" not in left, f"{value}: a variable without a default"
    return _VARIABLE.sub(lambda found: variables.get(found[1], found[2]) if found[1] else "$", value)


class Service:
    """One service of the file outside of a container: ``places`` maps the paths and ports of the container to ours."""

    def __init__(self, name: str, told: Mapping[str, Any], folder: Path, places: Mapping[str, str]) -> None:
        self.name, self._told, self._places = name, told, places
        self.folder = folder / name
        self.folder.mkdir()
        self.log = self.folder / "log"
        self.process: subprocess.Popen[bytes] | None = None
        environment = {key: self._placed(str(value)) for key, value in told.get("environment", {}).items()}
        programs = [str(Path(sys.executable).parent), str(folder / "programs"), os.environ["PATH"]]
        self.environment = {"PATH": ":".join(programs), "PYTHONPATH": str(REPOSITORY), "TZ": "UTC", **environment}

    @property
    def alive_file(self) -> Path:
        """What a worker or beat touches."""
        return self.folder / "alive"

    def start(self) -> None:
        """Start its command, in a session of its own."""
        self.process = subprocess.Popen(
            self._command(self._told["command"]),
            cwd=self.folder,
            env=self.environment,
            stdout=self.log.open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def run(self, *command: str) -> str:
        """Run a command in its environment, as `docker compose run --rm` does; returns what it printed."""
        done = subprocess.run(
            self._command(command or self._told["command"]),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def is_healthy(self) -> bool:
        """Run the command of its health check once."""
        form, *words = self._told["healthcheck"]["test"]
        command = ["sh", "-c", *words] if form == "CMD-SHELL" else words
        done = subprocess.run(
            self._command(command), cwd=self.folder, env=self.environment, capture_output=True, timeout=30, check=False
        )
        return done.returncode == 0

    def output(self) -> str:
        """What it has written so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def stop(self) -> int:
        """Stop it as an engine does; returns the exit code."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(40)

    def kill(self) -> None:
        """Kill it with all its processes."""
        if self.process is not None and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)

    def _command(self, words: Any) -> list[str]:
        placed = [self._placed(word) for word in words]
        return [sys.executable, "-m", "agentflow", *placed[1:]] if placed[0] == "agentflow" else placed

    def _placed(self, text: str) -> str:
        places = {**self._places, "/tmp": str(self.folder)}
        return re.sub(rf"(?<![\w/])({'|'.join(map(re.escape, places))})\b", lambda found: places[found[1]], text)
