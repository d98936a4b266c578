"""The client's feeds: events as they come, of one run, of a project, or of the whole installation.

Owns the loop around a feed. How nothing is missed is feed.py's, how often to look pace.py's.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from agentflow.client.checks import checked_timeout
from agentflow.client.connection import Connected
from agentflow.client.feed import EventFeed
from agentflow.client.pace import Pace
from agentflow.domain.error import ServersUnreachable, UsageError
from agentflow.domain.ids import RunId
from agentflow.storage.view_shapes import EventView

if TYPE_CHECKING:
    from agentflow.client.run import Run


class Feeds(Connected):
    """What tells what happens, as it happens."""

    def feed(
        self, *, after: int | None = None, project: str | None = None, timeout: float | None = None
    ) -> Iterator[EventView]:
        """Yield events as they come, for ``timeout`` seconds or for ever.

        ``after`` is the id of the last event that is known; without it only what happens from now on is told. A
        ``project`` has the events of its runs; without it there are also those of no run. None is missed, none comes
        twice. Raises ServersUnreachable when Postgres is away for 30 seconds.
        """
        if after is not None and after < 0:
            raise UsageError(f"An event's id is 0 or more, not {after}.")
        return self._feed(EventFeed(self._reading, project=project, after=after), Pace(checked_timeout(timeout)))

    def event_feed(self, run: Run, *, after: int | None = 0) -> EventFeed:
        """Return the feed of a run's events above the id ``after``; None: of those from now on."""
        return EventFeed(self._reading, run=RunId(run.uuid), after=after)

    def _feed(self, feed: EventFeed, pace: Pace) -> Iterator[EventView]:
        while True:
            try:
                found = feed.take()
                pace.recover()
            except ServersUnreachable as error:
                pace.bear(error)
            else:
                if found:
                    pace.quicken()
                yield from found
            if not pace.pause():
                return
