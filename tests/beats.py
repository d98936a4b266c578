"""Real beat processes under test: started with an environment of their own, stopped, frozen and killed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from sqlalchemy import text

from agentflow.engine.context import EngineContext
from agentflow.engine.scheduler import SERVICE
from agentflow.settings import Settings
from tests.factories import wait_for
from tests.workers import environment_of

VIA_CELERY = ("celery", "-A", "beat", "beat")


class BeatProcess:
    """A beat in a session of its own, with another cwd and HOME than the test's."""

    def __init__(
        self, settings: Settings, folder: Path, command: tuple[str, ...], name: str = "beat", **environment: str
    ) -> None:
        self.log = folder / f"{name}.log"
        self.cwd = folder / f"{name}-cwd"
        self.cwd.mkdir(exist_ok=True)
        self.environment = {**environment_of(settings, folder), **environment}
        self.process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=self.cwd,
            env=self.environment,
            stdout=self.log.open("wb"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The process that ticks."""
        return self.process.pid

    def output(self) -> str:
        """What it has written so far."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def wait_until_keeping(self, context: EngineContext) -> None:
        """Wait until it keeps the schedules; its log is the error if it ends before."""
        wait_for(lambda: self.process.poll() is not None or keeper_pid(context) == self.pid)
        assert self.process.poll() is None, self.output()

    def send(self, number: int) -> None:
        """Send a signal to the process that ticks; not to its dispatcher."""
        os.kill(self.pid, number)

    def kill(self) -> None:
        """Kill the process that ticks; nothing happens when it has ended."""
        self.process.kill()
        self.process.wait(10)


def keeper_pid(context: EngineContext) -> int | None:
    """The process that keeps the schedules now."""
    with context.database.transaction() as tx:
        statement = text("SELECT holder FROM leader WHERE service = :service AND expires_at > now()")
        holder = tx.execute(statement, {"service": SERVICE}).scalar_one_or_none()
    return None if holder is None else int(holder.rpartition(":")[2])
