"""What stands in the place of servers and workers: fakeredis, kombu's in-memory broker, and a client over both.

Owns how a runtime is put together from them. Everything that is built on it is production's own.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import cached_property
from typing import Any
from uuid import UUID

import fakeredis
from celery import Celery
from fakeredis import FakeServer
from kombu import Connection

from agentflow.broker.app import make_celery
from agentflow.broker.bells import SideChannel, StopListener
from agentflow.broker.breakers import Breakers
from agentflow.broker.budgets import Ledger
from agentflow.broker.keys import Keys
from agentflow.broker.queues import task_queues
from agentflow.broker.scripts import register
from agentflow.content.shared_directory import SharedDirectory
from agentflow.domain.ids import RunId, StepKey
from agentflow.engine.context import EngineContext
from agentflow.engine.execute import Doorbell
from agentflow.runtime import Runtime, audit_key_of
from agentflow.settings import Settings
from agentflow.storage.database import Database
from agentflow.testing.clock import Clock

REDIS_URL = "redis://in-process.invalid:6379/0"
BROKER_URL = "memory://"


class InProcessRedis:
    """A Redis in this process, with the scripts' Lua, on a rehearsal's clock."""

    def __init__(self, clock: Clock) -> None:
        self._server = FakeServer()
        self._clock = clock

    def client(self) -> Any:
        """A client of its own."""
        client = fakeredis.FakeRedis(server=self._server)
        pool, clock = client.connection_pool, self._clock

        class Clocked(pool.connection_class):  # type: ignore[misc,name-defined]  # fakeredis makes it for each kind of server
            def _connect(self) -> Any:
                socket = super()._connect()
                socket.time = lambda: _moment(time.time() + clock.seconds_ahead)
                return socket

        pool.connection_class = Clocked
        return client


def _moment(seconds: float) -> list[bytes]:
    """What the command TIME answers."""
    whole, rest = divmod(round(seconds * 1_000_000), 1_000_000)
    return [str(whole).encode(), str(rest).encode()]


class InProcessSideChannel(SideChannel):
    """The side channel over a Redis in this process."""

    def __init__(self, server: InProcessRedis) -> None:
        super().__init__(REDIS_URL)
        self._server = server
        self._client = server.client()
        self._take_reports = register(self._client, "take_reports")

    def listen_for_stops(self) -> StopListener:
        """Subscribe to the stops."""
        return _Listener(self._server, self.keys)


class _Listener(StopListener):
    def __init__(self, server: InProcessRedis, keys: Keys) -> None:
        self._client = server.client()
        self._subscription = self._client.pubsub(ignore_subscribe_messages=True)
        self._subscription.subscribe(keys.stops)


class InProcessRuntime(Runtime):
    """A runtime whose Redis and whose broker are in this process."""

    def __init__(self, settings: Settings, server: InProcessRedis) -> None:
        super().__init__(settings)
        self._server = server

    @cached_property
    def celery(self) -> Celery:
        """The Celery app."""
        return make_celery(BROKER_URL)

    @cached_property
    def context(self) -> EngineContext:
        """What verbs work with."""
        side_channel = InProcessSideChannel(self._server)
        return EngineContext(
            settings=self.settings,
            database=Database(self.servers.database_url),
            celery=self.celery,
            side_channel=side_channel,
            breakers=Breakers(side_channel.client, side_channel.keys),
            store=SharedDirectory(self.settings.content_root()),
            ledger=Ledger(side_channel.client, side_channel.keys),
            audit_key=audit_key_of(self.settings),
        )


class Doorbells:
    """The messages that wait in the in-memory broker, which is one for the whole process."""

    def __init__(self, celery: Celery) -> None:
        self._celery = celery
        self._connection: Connection = celery.connection_for_read()
        channel = self._connection.default_channel
        self._queues = [queue(channel) for queue in task_queues()]
        for queue in self._queues:
            queue.declare()
            queue.purge()  # what an earlier rehearsal left is nobody's

    def take(self) -> Iterator[Doorbell]:
        """Take messages, one of each queue in turn, until none is left.

        What they would pass on after their step is left to the settle, which sends it anew.
        """
        is_empty = False
        while not is_empty:
            is_empty = True
            for queue in self._queues:
                message = queue.get(no_ack=True)
                if message is not None:
                    is_empty = False
                    named = message.payload[1]
                    yield Doorbell(RunId(UUID(named["run_id"])), StepKey(named["step_id"]))

    def close(self) -> None:
        """Let go of the broker's connections."""
        self._connection.close()
        self._celery.close()
