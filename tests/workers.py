"""Real worker processes under test: started with an environment of their own, stopped, frozen and killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from agentflow.settings import Settings

REPOSITORY = Path(__file__).parent.parent
START_SECONDS = 90


class WorkerProcess:
    """A worker in a session of its own, with another cwd and HOME than the test's."""

    def __init__(
        self,
        settings: Settings,
        folder: Path,
        name: str,
        app: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        cwd = folder / f"{name}-cwd"
        cwd.mkdir()
        options = arguments or ("-c", "2")
        # No -E: what a test does not ask for is off, as in production.
        command = [sys.executable, "-m", "celery", "-A", app, "worker", "-n", f"{name}@%h", "--without-gossip"]
        self.process = subprocess.Popen(
            [*command, "--without-mingle", *options],
            cwd=cwd,
            env={**environment_of(settings, cwd), **environment},
            stdout=self.log.open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The main process."""
        return self.process.pid

    def wait_until_ready(self) -> None:
        """Wait until the worker takes messages; its log is the error if it ends before."""
        deadline = time.monotonic() + START_SECONDS
        while " ready." not in self.output():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the worker is not ready (exit {self.process.poll()}):\n{self.output()}")
            time.sleep(0.05)

    def output(self) -> str:
        """What the worker has written so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def processes(self) -> list[int]:
        """The main process and everything that descends from it, supervisors and commands included."""
        return descendants(self.pid)

    def send(self, number: int) -> None:
        """Send a signal to the main process only."""
        os.kill(self.pid, number)

    def send_all(self, number: int) -> None:
        """Send a signal to the main process, its pool children and its dispatcher; not to supervisors and commands."""
        for pid in [*children(self.pid), self.pid]:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def stop(self, timeout_seconds: float = 30) -> int:
        """Stop as a deploy does, with SIGTERM; returns the exit code."""
        self.send(signal.SIGTERM)
        return self.process.wait(timeout_seconds)

    def kill(self) -> None:
        """Kill the main process, its pool children and its dispatcher at once."""
        if self.process.poll() is None:
            self.send(signal.SIGSTOP)  # it puts no new child in the place of one that is gone
            self.send_all(signal.SIGKILL)
        self.process.wait(10)


def environment_of(settings: Settings, cwd: Path) -> dict[str, str]:
    """The environment of a process that belongs to a test's installation and sees nothing else of this machine."""
    assert settings.database_url is not None
    assert settings.redis_url is not None
    assert settings.audit_key is not None
    values = {
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "REDIS_URL": settings.redis_url.get_secret_value(),
        "AUDIT_KEY": settings.audit_key.get_secret_value(),
        "CONTENT_DIR": str(settings.content_dir),
        "HOME": str(cwd / "agentflow-home"),
        "REDIS_PREFIX": settings.redis_prefix,
        "LEASE_SECONDS": str(settings.lease_seconds),
        "KILL_GRACE_SECONDS": str(settings.kill_grace_seconds),
        "DRAIN_SECONDS": str(settings.drain_seconds),
        "LOST_DOORBELL_SECONDS": str(settings.lost_doorbell_seconds),
    }
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(cwd),
        "LANG": "C.UTF-8",
        "PYTHONPATH": str(REPOSITORY),
        "C_FORCE_ROOT": "1",
        **{f"AGENTFLOW_{name}": value for name, value in values.items()},
    }


def children(pid: int) -> list[int]:
    """The direct children of a process, whichever of its threads started them."""
    found: list[int] = []
    for listed in Path(f"/proc/{pid}/task").glob("*/children"):
        with suppress(OSError):  # the thread has ended
            found += map(int, listed.read_text(encoding="ascii").split())
    return found


def descendants(pid: int) -> list[int]:
    """A process and all that descend from it."""
    found = [pid]
    for each in found:
        found.extend(children(each))
    return found


def is_alive(pid: int) -> bool:
    """Whether a process is there and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()[0] != "Z"
    except (OSError, IndexError):
        return False
