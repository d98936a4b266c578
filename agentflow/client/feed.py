"""Events as they come, each once, in the order of their ids, none missed: the cursor of a feed is the last id it gave.

Owns how far a feed may read. An event's id is given before its transaction commits, so a lower id can appear after a
higher one was seen. Up to which id nothing can appear any more is found by looking three times, in this order:

    the newest id that can be seen  ->  who may be writing events now  ->  the events, up to that id

Ids are given in order, and who has taken one holds a lock until all can see what he wrote. Whoever has an id below the
newest one and is not seen yet holds his lock at the second look, so once all who were found there have ended, that id
is settled. Costs those who write nothing. Transactions that write no event, long ones too, hold nothing up.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

from sqlalchemy import Connection

from agentflow.client.pace import Pace
from agentflow.domain.error import Conflict, ServersUnreachable
from agentflow.domain.ids import RunId
from agentflow.storage import feeds
from agentflow.storage.feeds import FedEvent
from agentflow.storage.view_shapes import EventView

PAGE_EVENTS = 2000
LONGEST_UNSEEN_SECONDS = 2.0
LONGEST_SETTLING_SECONDS = 5.0
_MOST_WAITING = 1000
Reading = Callable[[], AbstractContextManager[Connection]]


class Horizon:
    """Up to which id each event is to be seen or will never be. It only rises; None until it is known."""

    def __init__(self) -> None:
        self.settled: int | None = None
        self._waiting: deque[tuple[int, frozenset[str]]] = deque()

    @property
    def is_waiting(self) -> bool:
        """Whether newer events were seen than are settled."""
        return bool(self._waiting)

    @property
    def writers(self) -> frozenset[str]:
        """Whose end the next step waits for."""
        return self._waiting[0][1] if self._waiting else frozenset()

    def advance(self, newest: int, find_writers: Callable[[], frozenset[str]]) -> int | None:
        """Take in a look: ``newest`` was read before ``find_writers`` is asked. Returns what is settled now."""
        is_newer = newest > (self._waiting[-1][0] if self._waiting else -1 if self.settled is None else self.settled)
        if not is_newer and not self._waiting:
            return self.settled
        writers = find_writers()
        if is_newer and len(self._waiting) < _MOST_WAITING:
            self._waiting.append((newest, writers))
        while self._waiting and not self._waiting[0][1] & writers:
            self.settled = self._waiting.popleft()[0]
        if self._waiting:
            self._waiting[0] = (self._waiting[0][0], self._waiting[0][1] & writers)
        return self.settled


def look(horizon: Horizon, tx: Connection) -> int | None:
    """Move ``horizon`` on by how things stand; what is settled is seen by the statements after this."""
    return horizon.advance(feeds.read_newest(tx), lambda: feeds.find_writers(tx))


class EventFeed:
    """Hands out the events of a run, of a project, or all; ``after`` is the id from which it goes on."""

    def __init__(
        self, reading: Reading, *, run: RunId | None = None, project: str | None = None, after: int | None = 0
    ) -> None:
        self._reading = reading
        self._run = run
        self._project = project
        self._horizon = Horizon()
        self.at = after
        """The id after which it goes on; None until it is known where now is."""

    def take(self) -> list[EventView]:
        """Return what is new and settled, up to a page of it."""
        with self._reading() as tx:
            settled = look(self._horizon, tx)
            if settled is None:
                return []
            if self.at is None:
                self.at = settled
            if self.at >= settled:
                return []
            found = read_page(tx, self.at, settled, run=self._run, project=self._project)
        self.at = settled if len(found) < PAGE_EVENTS else found[-1].event.id
        return [fed.event for fed in found]

    def settle(self) -> int:
        """Wait until it is known up to which id nothing can appear any more, and return that id.

        What the caller has seen is below it. Conflict: somebody goes on writing for longer than one can wait.
        """
        pace = Pace(LONGEST_SETTLING_SECONDS)
        while True:
            with self._reading() as tx:
                settled = look(self._horizon, tx)
            if settled is not None:
                return settled
            if not pace.pause():
                raise Conflict("Events are being written that cannot be read yet; ask again in a moment.")

    def take_rest(self, until: int = feeds.LAST_ID) -> Iterator[EventView]:
        """Yield all that can be seen behind what was handed out: for a run that has ended or rests.

        Of a run that goes on only ``until`` what is settled: what is above may not be all.
        """
        while True:
            with self._reading() as tx:
                found = read_page(tx, self.at or 0, until, run=self._run, project=self._project)
            for fed in found:
                self.at = fed.event.id
                yield fed.event
            if len(found) < PAGE_EVENTS:
                return


class Stir:
    """Tells when a whole run is worth another look: once something happened to it, or the last look is long ago.

    What is shown may also change without an event of the run: by those of its child runs, and by time alone.
    """

    def __init__(self, feed: EventFeed) -> None:
        self._feed = feed
        self._looked_at = float("-inf")

    def is_felt(self, *, is_last: bool = False) -> bool:
        """Whether to look now; ``is_last``: it is the last time. An outage is for the look itself to bear."""
        try:
            happened = bool(self._feed.take())
        except ServersUnreachable:
            happened = True
        if happened or is_last or time.monotonic() - self._looked_at >= LONGEST_UNSEEN_SECONDS:
            self._looked_at = time.monotonic()
            return True
        return False


def read_page(
    tx: Connection, after: int, until: int, *, run: RunId | None = None, project: str | None = None
) -> list[FedEvent]:
    """Read a page of the events of a run, of a project, or of all."""
    if run is not None:
        return feeds.read_run(tx, run, after, until, PAGE_EVENTS)
    return feeds.read_all(tx, after, until, PAGE_EVENTS, project)
