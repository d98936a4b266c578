"""Deaths at a named point: the environment of processes that may die, and the word that lets the next one do so."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.factories import wait_for
from tests.workers import REPOSITORY


@dataclass(frozen=True)
class Deaths:
    """The points at which processes with this environment die; see dying/sitecustomize.py for their names."""

    folder: Path

    @property
    def environment(self) -> dict[str, str]:
        """What a process needs to know of it."""
        path = f"{REPOSITORY}/tests/faults/dying:{REPOSITORY}"
        return {"TEST_DYING": str(self.folder), "PYTHONPATH": path}

    def ask(self, point: str) -> None:
        """Let the next process die that comes to the point."""
        (self.folder / point).touch()

    def is_met(self, point: str) -> bool:
        """Whether a process has died there since it was asked."""
        return (self.folder / f"{point}.met").exists() and not (self.folder / point).exists()

    def wait_for(self, point: str, timeout_seconds: float = 30) -> None:
        """Wait until a process has died there."""
        wait_for(lambda: self.is_met(point), timeout_seconds)
