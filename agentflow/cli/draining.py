"""The wait of ``pause --wait`` for what still runs, and what is said when the time is over before that.

Owns the words of a wait that ran out: what runs, that the pause stands all the same, and what can be done.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from agentflow.client import AgentFlow, Run
    from agentflow.domain.error import WaitTimeout

NAMED = 5
"""How many of the steps that still run are named."""


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands, waited for or not. ``runs`` are those that were paused; None: everything is under maintenance."""

    words: str
    runs: Sequence[Run] | None


class Draining:
    """The wait for what runs, if one was asked for; its time counts from here."""

    def __init__(self, flow: AgentFlow, is_asked: bool, timeout_seconds: float | None) -> None:
        if timeout_seconds is not None and not is_asked:
            from agentflow.domain.error import UsageError

            raise UsageError("--timeout says how long to --wait: give both.")
        self._flow, self._is_asked = flow, is_asked
        self._began, self._timeout = time.monotonic(), timeout_seconds

    def wait(self, standing: Standing) -> float | None:
        """Wait until nothing of it runs; returns for how long, None if that was not asked."""
        from agentflow.domain.error import WaitTimeout

        if not self._is_asked:
            return None
        try:
            for run in [None] if standing.runs is None else standing.runs:
                left = None if self._timeout is None else max(0.0, self._timeout - self._spent())
                self._flow.wait_drained(run, left)
        except WaitTimeout as error:
            raise self._late(error, standing) from None
        return round(self._spent(), 3)

    def _spent(self) -> float:
        return time.monotonic() - self._began

    def _late(self, error: WaitTimeout, standing: Standing) -> WaitTimeout:
        from agentflow.cli.words import count, short_id
        from agentflow.domain.error import WaitTimeout

        runs, spent = standing.runs, self._spent()
        going = [] if runs is None else [run for run in runs if self._flow.count_running(run)]
        running = sum(map(self._flow.count_running, going)) if going else int(error.details["running"])
        named = list(islice(self._running(None if runs is None else going), NAMED + 1))
        more = ", ..." if len(named) > NAMED else ""
        which = f": {', '.join(named[:NAMED])}{more}" if named else ""
        whom = "--all" if runs is None or not going else short_id(going[0].id)
        lines = [
            f"{count(running, 'attempt')} still {'runs' if running == 1 else 'run'} after {spent:.1f} s{which}.",
            standing.words,
            f"  wait again: agentflow pause {whom} --wait",
            f"  end what runs and give it back: agentflow pause {whom} --now",
            f"  let it go on: agentflow resume {whom}",
        ]
        return WaitTimeout("\n".join(lines), running=running)

    def _running(self, runs: Sequence[Run] | None) -> Iterator[str]:
        """The steps that run; of everything, those that workers are known to have."""
        from agentflow.cli.words import printable, short_id

        if runs is None:
            for worker in self._flow.workers().workers:
                yield from (f"{short_id(work.run_id)} {printable(work.step)}" for work in worker.work)
            return
        for run in runs:
            steps = run.refresh().view.steps.values()
            yield from (f"{short_id(run.id)} {printable(step.id)}" for step in steps if step.state == "running")
