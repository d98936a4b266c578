"""The crash that `agentflow demo --crash` shows: it kills the worker under a running step, and tells what became of it.

Owns waiting for the step and the words. The killing is stack/crash.py's, the recovery the dispatcher's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime

from agentflow.client import AgentFlow, Run
from agentflow.client.pace import Pace
from agentflow.domain.ids import StepKey
from agentflow.stack.crash import kill_worker

CRASHED_STEP = StepKey("worst_hour")
SIBLINGS = (StepKey("errors"), StepKey("warnings"))
"""They run beside the step and are let finish: what is settled stays settled."""
PAUSE_SECONDS = 6
"""How long the step rests before it works, so that there is time to kill its worker."""


class CrashShow:
    """Kills the worker once, from a thread of its own, while the caller follows the run."""

    def __init__(self, flow: AgentFlow, run_id: str, stack_pid: int, say: Callable[[str], None]) -> None:
        self._flow, self._run_id, self._stack_pid, self._say = flow, run_id, stack_pid, say
        self._killed_at: datetime | None = None

    def start(self) -> None:
        """Begin to wait for the step."""
        threading.Thread(target=self._kill_when_running, name="crash-show", daemon=True).start()

    def account(self, run: Run) -> str:
        """Tell what became of the attempt, once the run has ended."""
        lost = [attempt for attempt in run.steps[CRASHED_STEP].attempts if attempt.state == "lost"]
        if self._killed_at is None or not lost or lost[0].ended_at is None:
            return f"{CRASHED_STEP} was over before its worker could be killed, so there was nothing to recover."
        seconds = (lost[0].ended_at - self._killed_at).total_seconds()
        return (
            f"\nThe killed attempt is recorded as lost {seconds:.0f} s after the kill; nothing was settled in its name."
            f"\nA worker that the stack had started took {CRASHED_STEP} up, and the run is {run.state}."
        )

    def _kill_when_running(self) -> None:
        run, pace = self._flow.get(self._run_id), Pace()
        while not _is_alone(run):
            if run.is_at_rest:
                return
            pace.pause()
            run.refresh()
        killed = kill_worker(self._stack_pid)
        self._killed_at = datetime.now(UTC)
        self._say(
            f"SIGKILL to all {len(killed)} processes of the worker, in the middle of {CRASHED_STEP}. Nobody else may "
            f"take the step\nuntil its lease of {self._flow.settings.lease_seconds:g} s has lapsed."
        )


def _is_alone(run: Run) -> bool:
    steps = run.steps
    return steps[CRASHED_STEP].state == "running" and all(steps[each].state == "succeeded" for each in SIBLINGS)
