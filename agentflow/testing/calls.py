"""The calls that the steps of a rehearsal made: to models, to services, and the mails of notify steps.

Owns what a test sees of a call, and what no stub had an answer for. All of it stays in the test's memory.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from agentflow.executors.base import Assignment


@dataclass(frozen=True, slots=True)
class Call:
    """One call. ``target`` is the model, the url, or the addresses of a mail; ``body`` what was sent, as bytes."""

    kind: Literal["model", "http", "mail"]
    run_id: str
    step: str
    attempt: int
    target: str
    prompt: str = ""
    system: str | None = None
    method: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self) -> Any:
        """The body, read as JSON."""
        return json.loads(self.body)


class CallBook:
    """The calls of one rehearsal, in their order; the executors' threads write, the test reads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._calls: list[Call] = []
        self._complaints: list[str] = []

    @property
    def calls(self) -> tuple[Call, ...]:
        """All calls."""
        with self._lock:
            return tuple(self._calls)

    def note(self, call: Call) -> None:
        """Note a call."""
        with self._lock:
            self._calls.append(call)

    def complain(self, assignment: Assignment, what: str) -> None:
        """Note that the test must say something more."""
        with self._lock:
            self._complaints.append(f"Step {assignment.step_key!r}, attempt {assignment.attempt}: {what}")

    def take_complaints(self) -> list[str]:
        """Take what was noted."""
        with self._lock:
            taken, self._complaints = self._complaints, []
        return taken
