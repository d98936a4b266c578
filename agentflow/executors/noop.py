"""Performs ``noop``: nothing, in process, at once. For joins and for measuring everything around the work."""

from __future__ import annotations

from agentflow.executors.base import Assignment, Lifeline, Performance
from agentflow.executors.command import Ended


class NoopExecutor:
    """Succeeds at once."""

    action = "noop"
    queue = "control"

    def perform(self, assignment: Assignment, lifeline: Lifeline) -> Performance:
        """Do nothing."""
        return Performance(ended=Ended.EXITED, exit_code=0)

    def close(self) -> None:
        """Nothing is kept."""
