"""Child runs: what a step waits for that runs another plan, and how it ends when that has.

Owns the ids of child runs and the depth to which they nest. Rows are storage's, starting and ending them engine verbs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from uuid import UUID

from agentflow.domain.beginning import Ends
from agentflow.domain.ids import RunId, StepId
from agentflow.domain.reason import Reason, ReasonCode
from agentflow.domain.state import FINAL_RUN_STATES, RunState, StepState

MAX_DEPTH = 8
"""How many runs may stand above one."""


@dataclass(frozen=True, slots=True)
class Awaited:
    """The child run that a held step waits for, and the round of it: an earlier round's end does not count.

    It is written down before the child is made, so that whoever makes it after a crash makes the same one.
    """

    run_id: RunId
    round: int

    @property
    def reason(self) -> Reason:
        """Why the step is held."""
        return Reason(ReasonCode.AWAITS_RUN, {"run": str(self.run_id), "round": self.round})

    @classmethod
    def from_reason(cls, stored: Mapping[str, Any] | None) -> Self | None:
        """Read it from the reason of a held step; None where the step waits for something else."""
        if stored is None or stored.get("code") != ReasonCode.AWAITS_RUN.value:
            return None
        return cls(RunId(UUID(stored["detail"]["run"])), int(stored["detail"]["round"]))


@dataclass(frozen=True, slots=True)
class ChildRun:
    """How a child run stands."""

    run_id: RunId
    state: RunState
    round: int

    @property
    def is_final(self) -> bool:
        """Whether it has ended."""
        return self.state in FINAL_RUN_STATES


def child_run_id(step_id: StepId, number: int) -> RunId:
    """Return the id of the ``number``-th child run of a step."""
    digest = hashlib.sha256(step_id.bytes + b"run" + str(number).encode()).digest()
    return RunId(UUID(bytes=digest[:16], version=4))


def next_awaited(step_id: StepId, made: int, last: ChildRun | None) -> Awaited:
    """Decide what a step waits for that begins, and of whose child runs ``made`` were made, ``last`` the last of them.

    One that did not get to its end is taken up again; one that is under way is waited for; else a new one is made.
    """
    if last is not None and last.state in (RunState.FAILED, RunState.CANCELLED):
        return Awaited(last.run_id, last.round + 1)
    if last is not None and not last.is_final:
        return Awaited(last.run_id, last.round)
    return Awaited(child_run_id(step_id, made + 1), 1)


def after_child(child: ChildRun) -> Ends:
    """Decide how a step ends whose child run has: a partial child is a success that makes the run partial."""
    detail = {"run": str(child.run_id), "state": child.state.value}
    reason = Reason(ReasonCode.CHILD_ENDED, detail)
    if child.state is RunState.COMPLETED:
        return Ends(StepState.SUCCEEDED, result=detail)
    if child.state is RunState.PARTIAL:
        return Ends(StepState.SUCCEEDED, reason, result=detail)
    return Ends(StepState.FAILED, reason, result=detail)
