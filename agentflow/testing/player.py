"""Plays a run: answers its doorbells, lets the dispatcher work, lets people decide, and leaps over what only waits.

Owns the order of these. Each of them is production's own code; only one thing happens at a time, in this thread.
"""

from __future__ import annotations

import os
import threading
import warnings
from dataclasses import dataclass, field

from agentflow.client import AgentFlow
from agentflow.client.run import Run
from agentflow.domain.ids import step_id
from agentflow.domain.state import is_final
from agentflow.engine.dispatcher import Dispatcher
from agentflow.engine.execute import Doorbell, execute
from agentflow.storage import engine_steps, steps
from agentflow.testing.calls import CallBook
from agentflow.testing.clock import Clock
from agentflow.testing.connections import Doorbells, InProcessRuntime
from agentflow.testing.forcing import WorkerLost
from agentflow.testing.people import People
from agentflow.testing.script import RehearsalError

MOST_LEAPS = 2000
"""After so many, what is waited for comes never: such as a model that asks to come back later each time."""
PATIENCE_PASSES = 5
"""So many passes of the dispatcher in which nothing moves and nothing is due are taken for a run that is stuck."""


@dataclass
class Player:
    """Plays the runs of one rehearsal."""

    runtime: InProcessRuntime
    clock: Clock
    doorbells: Doorbells
    people: People
    book: CallBook
    _worker: str = field(default_factory=lambda: f"rehearsal:{os.getpid()}")
    _dispatcher: Dispatcher | None = None

    def play(self, flow: AgentFlow, run: Run) -> None:
        """Go on until the run has ended or rests, and nothing that the test said can move it.

        Raises RehearsalError for what the test left unsaid.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("default")  # where tests make errors of them, a library's word would fail a step
            self._play(flow, run)

    def _play(self, flow: AgentFlow, run: Run) -> None:
        idle_passes = leaps = 0
        while idle_passes < PATIENCE_PASSES and leaps < MOST_LEAPS:
            self._dispatch()
            if self._answer_doorbells() or self.people.decide(flow, run):
                idle_passes = 0
            elif run.refresh().is_at_rest:
                if not self._let_time_pass(self.people.take_time() if not is_final(run.state) else 0.0):
                    return
            elif self._leap_to_what_is_due():
                leaps += 1
            else:
                idle_passes += 1
        how = f"still waits after {leaps} leaps" if idle_passes < PATIENCE_PASSES else "does not move any more"
        raise RehearsalError(f"The run {how}: {flow.why(run).sentence}")

    def close(self) -> None:
        """Let the dispatcher resign."""
        stopping = threading.Event()
        stopping.set()
        if self._dispatcher is not None:
            self._dispatcher.run(stopping)

    def _dispatch(self) -> None:
        if self._dispatcher is None:
            self._dispatcher = Dispatcher(self.runtime.context, "rehearsal")
        self._dispatcher.one_pass()

    def _answer_doorbells(self) -> int:
        answered = 0
        for doorbell in self.doorbells.take():
            self._answer(doorbell)
            answered += 1
        return answered

    def _answer(self, doorbell: Doorbell) -> None:
        try:
            execute(self.runtime.context, self.runtime.lease_keeper, doorbell, self._worker)
        except WorkerLost:
            told = {"kind": "child_lost", "task_id": str(step_id(doorbell.run_id, doorbell.key))}
            self.runtime.context.side_channel.report({**told, "worker": self._worker, "is_stopping": False})
        complaints = self.book.take_complaints()
        if complaints:
            raise RehearsalError("\n".join(complaints))

    def _let_time_pass(self, seconds: float) -> bool:
        """Let time pass while the run rests, from one thing that falls due to the next; whether any did."""
        if seconds <= 0:
            return False
        due = self._seconds_to_due()
        if due is not None and due < seconds:
            self.people.put_back_time(seconds - due)
        self._leap(min(seconds, due or seconds))
        return True

    def _leap_to_what_is_due(self) -> bool:
        seconds = self._seconds_to_due()
        if seconds is not None:
            self._leap(seconds)
        return seconds is not None

    def _seconds_to_due(self) -> float | None:
        """In how many seconds something falls due by itself; None when nothing does."""
        with self.runtime.context.database.transaction() as tx:
            found = (steps.find_due(tx).seconds, engine_steps.seconds_to_held(tx))
        return min((seconds for seconds in found if seconds is not None), default=None)

    def _leap(self, seconds: float) -> None:
        self.close()
        self._dispatcher = None  # a leap ends its term
        self.clock.leap(seconds)
