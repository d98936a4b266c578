"""The hub: the one reader of a process, from which all its listeners are told.

Owns the ring of the newest events, written once for all, and who listens with which key. Reads only while somebody
listens. A listener has a cursor and nothing else: what he has not taken yet he finds in the ring, or, where he fell
behind it, in the database. Everything here but the reading itself happens in the server's event loop.
"""

from __future__ import annotations

import asyncio
import json
from bisect import bisect_right
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import anyio
from anyio import to_thread

from agentflow.client import AgentFlow
from agentflow.client.feed import PAGE_EVENTS, Horizon, look, read_page
from agentflow.client.kpi import Service, read_kpi, read_service
from agentflow.domain.api_key import ApiKey
from agentflow.domain.error import TooManyRequests
from agentflow.domain.ids import RunId
from agentflow.storage import feeds
from agentflow.storage.feeds import FedEvent
from agentflow.telemetry import get_logger

log = get_logger(__name__)
T = TypeVar("T")

MOST_LISTENERS, MOST_OF_KEY = 1000, 250
MOST_PROJECTS = 20
"""Of how many projects figures are told: those with the most listeners."""
RING_EVENTS, RING_BYTES = 4000, 32 * 1024 * 1024
QUICK_SECONDS, SLOW_SECONDS = 0.05, 0.25
CHORES_SECONDS = 5.0
"""How often figures are told and keys looked at; a revoked key's stream ends within this and the time of a look."""
_GROWTH = 1.4
_HELD_UP_LOOKS = 240
_BEHIND_AT_ONCE = 2
_LOG_READERS = 8
_STRETCH_IDS = 50_000
"""How far one statement looks for what is of a project: it goes through what is of others too."""
_AGAIN_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Told:
    """An event as it is sent."""

    fed: FedEvent
    body: bytes

    @property
    def id(self) -> int:
        """The event's id."""
        return self.fed.event.id


@dataclass(frozen=True, slots=True)
class Wish:
    """What a listener wants to be told: the events of a run, of a project, or all."""

    run: RunId | None = None
    project: str | None = None

    def fits(self, fed: FedEvent) -> bool:
        """Whether an event is one of those."""
        if self.run is not None:
            return fed.event.run_id == self.run
        return self.project is None or fed.project == self.project


def written(fed: FedEvent) -> Told:
    """Write an event as a listener gets it."""
    event = fed.event
    text = json.dumps(event.as_json(), ensure_ascii=False, separators=(",", ":"))
    return Told(fed, f"event: event\nid: {event.id}\ndata: {text}\n\n".encode())


class Hub:
    """What the live routes of one process share."""

    def __init__(self, flow: AgentFlow) -> None:
        self._flow = flow
        self._keys: Counter[str] = Counter()
        self._projects: Counter[str | None] = Counter()
        self._tasks: list[asyncio.Task[None]] = []
        self._reading = anyio.CapacityLimiter(1)
        self._checking = anyio.CapacityLimiter(1)
        self._measuring = anyio.CapacityLimiter(1)
        self._behind = anyio.CapacityLimiter(_BEHIND_AT_ONCE)
        self.reading_logs = anyio.CapacityLimiter(_LOG_READERS)
        """Of threads: a content store that hangs leaves those of the other routes alone."""
        self.closing = anyio.Event()
        """Set when the server ends."""
        self._forget()

    def _forget(self) -> None:
        self._horizon = Horizon()
        self._ring: list[Told] = []
        self._bytes = 0
        self._floor = 0
        self._invalid: frozenset[str] = frozenset()
        self.position: int | None = None
        """Up to here every event was told; None until it is known."""
        self._kpi: dict[str | None, bytes] = {}
        self.serial = 0
        """Counts what listeners are woken for."""
        self._changed = asyncio.Event()

    @property
    def listeners(self) -> int:
        """How many listen."""
        return self._keys.total()

    def check_room(self, key: ApiKey) -> None:
        """Refuse one listener more than there may be, of all and with one key. Raises TooManyRequests."""
        if self.listeners >= MOST_LISTENERS or self._keys[key.public_id] >= MOST_OF_KEY:
            raise TooManyRequests(CHORES_SECONDS)

    def is_open(self, key: ApiKey) -> bool:
        """Whether the key of a listener still opens something."""
        return key.public_id not in self._invalid

    @asynccontextmanager
    async def attended(self, key: ApiKey, wish: Wish) -> AsyncIterator[None]:
        """Count a listener in while the block runs; the hub reads while there is one."""
        self._keys[key.public_id] += 1
        self._projects[wish.project] += wish.run is None
        if not self._tasks:
            self._forget()
            self._tasks = [
                asyncio.create_task(each())
                for each in (self._follow, self._check_keys, self._tell_kpi, self._await_end)
            ]
        try:
            yield
        finally:
            self._keys[key.public_id] -= 1
            self._projects[wish.project] -= wish.run is None
            self._keys, self._projects = +self._keys, +self._projects
            if not self._keys:
                for task in self._tasks:
                    task.cancel()
                self._tasks = []

    async def changed(self, serial: int, seconds: float) -> bool:
        """Wait, for some seconds at most, until something is new since ``serial`` was read."""
        if serial != self.serial:
            return True
        with suppress(TimeoutError):
            await asyncio.wait_for(self._changed.wait(), seconds)
            return True
        return False

    def has_told(self, cursor: int) -> bool:
        """Whether there is nothing behind a cursor as far as is known."""
        return self.position is not None and cursor >= self.position

    def has_more(self, cursor: int) -> bool:
        """Whether there is something behind a cursor."""
        return self.position is not None and cursor < self.position

    def kpi_for(self, wish: Wish) -> bytes:
        """Return the newest figures for a listener; nothing for one of a run, and before there are any."""
        return self._kpi.get(wish.project, b"") if wish.run is None else b""

    async def above(self, cursor: int, wish: Wish) -> tuple[list[Told], int]:
        """Return the next events that a listener wishes for, and how far he has come then."""
        upto = self.position
        if upto is None or cursor >= upto:
            return [], cursor
        if cursor < self._floor:
            return await self._catch_up(cursor, upto, wish)
        start = bisect_right(self._ring, cursor, key=lambda told: told.id)
        return [told for told in self._ring[start:] if wish.fits(told.fed)], upto

    async def _catch_up(self, cursor: int, upto: int, wish: Wish) -> tuple[list[Told], int]:
        """Read a page of what is not in the ring (any more). Where that fails, the listener stays where he is."""
        until = upto if wish.project is None else min(upto, cursor + _STRETCH_IDS)

        def read() -> list[Told]:
            with self._flow.context.database.transaction() as tx:
                return [written(fed) for fed in read_page(tx, cursor, until, run=wish.run, project=wish.project)]

        found = await self._attempt(read, self._behind)
        if found is None:
            await asyncio.sleep(_AGAIN_SECONDS)
            return [], cursor
        return found, until if len(found) < PAGE_EVENTS else found[-1].id

    def _wake(self) -> None:
        self.serial += 1
        self._changed.set()
        self._changed = asyncio.Event()

    async def _await_end(self) -> None:
        await self.closing.wait()
        self._wake()

    async def _follow(self) -> None:
        """Read what is new, again and again: it is committed by other processes, and nothing signals it here."""
        pause, held_up = QUICK_SECONDS, 0
        while True:
            if fresh := await self._attempt(self._look, self._reading):
                self._publish(*fresh)
            is_busy = bool(fresh and fresh[1]) or self._horizon.is_waiting
            held_up = held_up + 1 if self._horizon.is_waiting and not (fresh and fresh[1]) else 0
            if held_up and held_up % _HELD_UP_LOOKS == 0:
                log.warning("feed_held_up", transactions=sorted(self._horizon.writers))
            pause = QUICK_SECONDS if is_busy and held_up < _HELD_UP_LOOKS else min(pause * _GROWTH, SLOW_SECONDS)
            await asyncio.sleep(pause)

    def _look(self) -> tuple[int, list[Told]] | None:
        with self._flow.context.database.transaction() as tx:
            settled = look(self._horizon, tx)
            if settled is None or settled == self.position:
                return None
            if self.position is None:
                return settled, []
            found = read_page(tx, self.position, settled)
        return (settled if len(found) < PAGE_EVENTS else found[-1].event.id), [written(fed) for fed in found]

    def _publish(self, reached: int, fresh: list[Told]) -> None:
        if self.position is None:
            self._floor = reached
        self.position = reached
        self._ring += fresh
        self._bytes += sum(len(told.body) for told in fresh)
        excess = max(0, len(self._ring) - RING_EVENTS)
        dropped = sum(len(told.body) for told in self._ring[:excess])
        while self._bytes - dropped > RING_BYTES and excess < len(self._ring):
            dropped += len(self._ring[excess].body)
            excess += 1
        if excess:
            self._floor = self._ring[excess - 1].id
            self._bytes -= dropped
            del self._ring[:excess]
        self._wake()

    async def _check_keys(self) -> None:
        while True:
            keys = list(self._keys)
            valid = await self._attempt(partial(self._valid, keys), self._checking)
            if valid is not None:
                self._invalid = frozenset(keys) - valid
                self._wake()
            await asyncio.sleep(CHORES_SECONDS)

    async def _tell_kpi(self) -> None:
        while True:
            wished = [project for project, _ in self._projects.most_common(MOST_PROJECTS)]
            self._kpi = {project: text for project, text in self._kpi.items() if project in wished}
            service = await self._attempt(partial(read_service, self._flow), self._measuring) if wished else None
            if service is not None:
                for project in wished:
                    await self._measure(service, project)
            self._wake()
            await asyncio.sleep(CHORES_SECONDS)

    async def _measure(self, service: Service, project: str | None) -> None:
        kpi = await self._attempt(partial(read_kpi, self._flow, service, project), self._measuring)
        if kpi is not None:
            text = json.dumps(kpi.as_json(), ensure_ascii=False, separators=(",", ":"))
            self._kpi[project] = f"event: kpi\ndata: {text}\n\n".encode()

    def _valid(self, keys: list[str]) -> frozenset[str]:
        with self._flow.context.database.transaction() as tx:
            return feeds.find_valid_keys(tx, keys)

    @staticmethod
    async def _attempt(read: Callable[[], T], limiter: anyio.CapacityLimiter) -> T | None:
        """Read in a thread; None where that failed: listeners wait then, and miss nothing."""
        try:
            return await to_thread.run_sync(read, limiter=limiter)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next look may succeed, and the listeners stay
            log.warning("feed_waits", error=type(error).__name__)
            return None
