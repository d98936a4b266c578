"""The client's way to send signals to runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from uuid import UUID

from agentflow.client.checks import checked_actor
from agentflow.client.conflicts import trying_again
from agentflow.client.connection import Connected
from agentflow.domain.ids import RunId
from agentflow.domain.signal import checked_data, checked_name
from agentflow.engine.signal import Signalled, signal
from agentflow.storage import views

if TYPE_CHECKING:
    from agentflow.client.run import Run


class Signals(Connected):
    """What hands runs the signals that their steps wait for."""

    @trying_again
    def signal(self, run: Run | str | UUID, name: str, data: Any = None) -> Signalled:
        """Send a signal to a run: it ends the wait of one step, whose result is ``data``, or is kept for one to come.

        ``data`` is JSON of at most 64 KiB. Raises UsageError for a name or data that cannot be, NotFound for a signal
        that no step of the plan waits for, InvalidTransition for a run that ends or has ended.
        """
        actor, named, given = checked_actor(self.settings.actor), checked_name(name), checked_data(data)
        return signal(self._checked_context(), self._run_id(run), named, actor, given)

    def _run_id(self, run: Run | str | UUID) -> RunId:
        if not isinstance(run, str | UUID):
            return RunId(run.uuid)
        with self._reading() as tx:
            return views.find_run(tx, str(run))
