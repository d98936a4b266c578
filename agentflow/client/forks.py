"""Forks as the client hands them out: a run that knows what it took over from another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from agentflow.client.run import Run
from agentflow.engine.fork import Forked

if TYPE_CHECKING:
    from agentflow.client.flow import AgentFlow


class ForkedRun(Run):
    """A run that was made as a fork.

    ``reused`` names the steps that it took over. ``outdated`` maps those of them that refer to vars with another value
    now to these vars, and ``changed_files`` names files of an edited plan that they may have read as they were before.
    """

    def __init__(self, flow: AgentFlow, forked: Forked) -> None:
        super().__init__(flow, forked.run_id, existing=forked.is_existing, is_sent=forked.is_sent)
        self.reused: tuple[str, ...] = forked.reused
        self.outdated: Mapping[str, tuple[str, ...]] = {str(key): names for key, names in forked.outdated.items()}
        self.changed_files = forked.changed_files

    def fork_json(self) -> dict[str, Any]:
        """What ``agentflow fork --json`` tells beside the run."""
        return {
            "existing": self.existing,
            "reused": list(self.reused),
            "outdated": {key: list(names) for key, names in self.outdated.items()},
            "changed_files": list(self.changed_files),
        }
