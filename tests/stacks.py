"""The command line under test, on a home of its own; and a look at /proc that knows nothing of agentflow's own ways."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import redirect_stdout, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

from agentflow.cli.main import main
from tests.workers import REPOSITORY

COMMAND = (sys.executable, "-m", "agentflow")


@dataclass(frozen=True)
class CommandLine:
    """Runs `agentflow` as a user of ``home`` would, in another directory than the repository."""

    home: Path
    cwd: Path
    environment: Mapping[str, str] = field(default_factory=dict)

    def run(self, *arguments: str, seconds: float = 60, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=self.cwd,
            env=self._environment(environment),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    def answer(self, *arguments: str, **environment: str) -> Any:
        """Run one command with --json; returns what it printed."""
        done = self.run(*arguments, "--json", **environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return json.loads(done.stdout)

    def start(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start a command in a session of its own, its words in pipes."""
        return subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=self.cwd,
            env=self._environment(environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def ask(self, *arguments: str, **environment: str) -> tuple[int, Any]:
        """Run one command with --json in this process, where only what it says matters; returns its exit code too."""
        before, written = Path.cwd(), io.StringIO()
        with patch.dict(os.environ, self._environment(environment), clear=True), redirect_stdout(written):
            os.chdir(self.cwd)
            try:
                code = main([*arguments, "--json"])
            finally:
                os.chdir(before)
        return code, json.loads(written.getvalue())

    def kill(self) -> None:
        """Kill whatever is left of it."""
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def processes(self) -> dict[int, str]:
        """Every process that has the home, or a command's HOME, in its arguments or environment; zombies apart."""
        found = {}
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid() and self._is_ours(entry):
                found[int(entry.name)] = (entry / "cmdline").read_text(errors="replace").replace("\0", " ")
        return found

    def wait_until_gone(self, seconds: float) -> float:
        """Wait until none of them is left; returns how long that took."""
        began = time.monotonic()
        while left := self.processes():
            assert time.monotonic() - began < seconds, left
            time.sleep(0.05)  # they are not our children: nothing signals their end
        return time.monotonic() - began

    def _is_ours(self, entry: Path) -> bool:
        try:
            words = (entry / "cmdline").read_bytes() + b"\0" + (entry / "environ").read_bytes()
            state = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
        except OSError:  # gone, or another account's
            return False
        return state != "Z" and any(os.fsencode(path) in words for path in (self.home, self.cwd))

    def _environment(self, more: Mapping[str, str]) -> dict[str, str]:
        own = {"PATH": os.environ["PATH"], "HOME": str(self.cwd), "LANG": "C.UTF-8", "PYTHONPATH": str(REPOSITORY)}
        return {**own, "AGENTFLOW_HOME": str(self.home), **self.environment, **more}


def read_until(process: subprocess.Popen[str], words: str) -> str:
    """Read what a started command prints until ``words`` appear; its end before that is the error."""
    assert process.stdout is not None
    read = ""
    for line in process.stdout:
        read += line
        if words in line:
            return read
    raise AssertionError(f"it ended with {process.wait()} and never said {words!r}:\n{read}")
