"""The client's verbs on everything: maintenance, and waiting until what runs has ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from agentflow.client.checks import checked_actor, checked_timeout, checked_why
from agentflow.client.connection import Connected
from agentflow.client.pace import Pace
from agentflow.domain.error import ServersUnreachable, WaitTimeout
from agentflow.domain.ids import RunId
from agentflow.domain.pause import Pause
from agentflow.engine.maintenance import MaintenanceBegun, MaintenanceEnded, pause_all, resume_all
from agentflow.storage import attempts, installations

if TYPE_CHECKING:
    from agentflow.client.run import Run


class Pauses(Connected):
    """What knows whether an installation is under maintenance, and what of it runs."""

    def pause_all(self, *, now: bool = False, why: str | None = None) -> MaintenanceBegun:
        """Put everything under maintenance: each run that goes on is paused, and what is submitted rests at once.

        With ``now`` what runs is ended and given back. Calling again finishes what was broken off, and can harden.
        """
        actor = checked_actor(self.settings.actor)
        return pause_all(self._checked_context(), actor, why=checked_why(why), is_hard=now)

    def resume_all(self) -> MaintenanceEnded:
        """End the maintenance: each run goes on that it paused. Calling again finishes what was broken off."""
        return resume_all(self._checked_context(), checked_actor(self.settings.actor))

    def maintenance(self) -> Pause | None:
        """Tell who put everything under maintenance, why and since when; None while it is not."""
        with self._reading() as tx:
            return installations.read_maintenance(tx)

    def count_running(self, run: Run | None = None) -> int:
        """Count the attempts that run: of one run, or of all."""
        with self._reading() as tx:
            return attempts.count_running(tx, None if run is None else RunId(run.uuid))

    def wait_drained(self, run: Run | None = None, timeout: float | None = None) -> float:
        """Wait until no attempt runs, of one run or of all; returns after how many seconds.

        Nothing that goes on is kept from starting another: pause first. Raises WaitTimeout after ``timeout`` seconds.
        """
        began, pace, running = time.monotonic(), Pace(checked_timeout(timeout)), 0
        while True:
            try:
                running = self.count_running(run)
            except ServersUnreachable as error:
                pace.bear(error)
            else:
                pace.recover()
                if not running:
                    return time.monotonic() - began
            if not pace.pause():
                whose = f"of run {run.id} " if run else ""
                waited = time.monotonic() - began
                what = "1 attempt" if running == 1 else f"{running} attempts"
                still = f"still {'runs' if running == 1 else 'run'} after {waited:.1f} s"
                raise WaitTimeout(f"{what} {whose}{still}.", running=running)
