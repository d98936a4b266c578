"""Failures that a test forces on a step: its executor is not asked, and the engine is told what would have happened.

Owns how a forced failure looks to the engine. What becomes of it (a retry, and when, or the end of the run) is its own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import dataclass

from agentflow.domain.action import HttpAction, LlmAction, NotifyAction
from agentflow.domain.call import CallProblem
from agentflow.domain.child import plan_id
from agentflow.domain.ids import StepKey
from agentflow.domain.wording import did_you_mean
from agentflow.executors.base import (
    Assignment,
    CallingExecutor,
    CallRecord,
    Estimate,
    Executor,
    Lifeline,
    Performance,
)
from agentflow.executors.command import Ended, StreamRecord
from agentflow.testing.script import RehearsalError, Script

TIMED_OUT_CODE = 124


class WorkerLost(BaseException):
    """The worker died in the midst of an attempt. No Exception, for those are settled."""


@dataclass(frozen=True, slots=True)
class Failure:
    """One forced failure; ``message`` is what the command wrote to stderr, ``problem`` what became of a call."""

    exit_code: int = 1
    message: str = ""
    problem: CallProblem | None = None
    is_timed_out: bool = False
    is_lost: bool = False

    def performance(self, assignment: Assignment) -> Performance:
        """What the executor would have said of it. Raises WorkerLost."""
        if self.is_lost:
            raise WorkerLost
        if self.problem is not None:
            return Performance(Ended.EXITED, call=CallRecord("rehearsal", "", was_sent=False, problem=self.problem))
        if isinstance(assignment.action, LlmAction | HttpAction) and not self.is_timed_out:
            raise RehearsalError(
                f"Step {assignment.step_key!r} makes a call, which has no exit code: force a problem, such as "
                f"agentflow.fail({assignment.step_key!r}, problem='unavailable'), or timed_out=True."
            )
        ended = Ended.TIMED_OUT if self.is_timed_out else Ended.EXITED
        code = TIMED_OUT_CODE if self.is_timed_out else self.exit_code
        return Performance(ended, exit_code=code, stderr=_stream(assignment, self.message), call=_call_of(assignment))


def _stream(assignment: Assignment, message: str) -> StreamRecord | None:
    if not message:
        return None
    path, written = assignment.scratch / "stderr", message.encode()
    path.write_bytes(written)
    return StreamRecord(path, len(written), len(written), hashlib.sha256(written).hexdigest(), is_cut=False)


def _call_of(assignment: Assignment) -> CallRecord | None:
    """The record that every performance of a call has."""
    is_call = isinstance(assignment.action, LlmAction | HttpAction) or (
        isinstance(assignment.action, NotifyAction) and assignment.action.command is None
    )
    return CallRecord("rehearsal", "", was_sent=False) if is_call else None


class Failures:
    """The forced failures of a rehearsal, by step."""

    def __init__(self) -> None:
        self._scripts: dict[str, Script[Failure]] = {}

    def force(self, step: str, failure: Failure, times: int | None) -> None:
        """Fail the next attempts of a step: of one item by its whole name, or of all by its id in the plan."""
        self._scripts.setdefault(step, Script()).add(failure, times)

    def take(self, key: str) -> Failure | None:
        """Take the failure of a step's next attempt, if there is one."""
        for name in dict.fromkeys((key, plan_id(StepKey(key)))):
            script = self._scripts.get(name)
            failure = None if script is None else script.next()
            if failure is not None:
                return failure
        return None

    def check(self, known: Collection[str]) -> None:
        """Raise RehearsalError for a step that no plan of the run has."""
        check_steps("fail", self._scripts, known)


def check_steps(verb: str, named: Collection[str], known: Collection[str]) -> None:
    """Raise RehearsalError for a name that is no step's; items of a foreach are known by their step's id."""
    for name in named:
        if plan_id(StepKey(name)) not in known:
            raise RehearsalError(
                f"agentflow.{verb}({name!r}, ...): the plan has no such step, {did_you_mean(name, known)}"
            )


class ForcedExecutor:
    """An executor before which forced failures stand; whoever made the one behind closes it."""

    def __init__(self, executor: Executor, failures: Failures) -> None:
        self.action, self.queue = executor.action, executor.queue
        self._behind = executor
        self._failures = failures

    def perform(self, assignment: Assignment, lifeline: Lifeline) -> Performance:
        """Fail as forced, else do the work."""
        failure = self._failures.take(assignment.step_key)
        return self._behind.perform(assignment, lifeline) if failure is None else failure.performance(assignment)

    def close(self) -> None:
        """Nothing is its own."""


class ForcedCaller(ForcedExecutor):
    """The same for an executor whose attempts are calls."""

    def __init__(self, executor: CallingExecutor, failures: Failures) -> None:
        super().__init__(executor, failures)
        self._caller = executor

    def estimate(self, assignment: Assignment) -> Estimate:
        """What the executor behind says."""
        return self._caller.estimate(assignment)


def forced(executor: Executor, failures: Failures) -> Executor:
    """Put forced failures before an executor."""
    if isinstance(executor, CallingExecutor):
        return ForcedCaller(executor, failures)
    return ForcedExecutor(executor, failures)
