"""What a process remembers of a Redis that did not answer: for a moment nobody asks it again.

A frozen Redis takes connections and says nothing, so that each question costs a socket's whole patience. Without this
memory a dispatcher with a hundred runs to send would wait a hundred times, and a verb for each thing it wants of Redis.
Owns nothing of what is done instead: rows and polls are the backstop everywhere.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import redis
from kombu.exceptions import OperationalError
from redis.backoff import NoBackoff
from redis.client import Pipeline
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.retry import Retry

#: Blocking reads wait up to a second; anything longer is a Redis that is away, and everybody can do without it.
SOCKET_SECONDS = 2.5
CONNECT_SECONDS = 2.0
REMEMBERED_SECONDS = 2.0
"""How long nobody asks again. Added to what Redis was away itself, before anything goes out."""
COSTLY_SECONDS = 0.5
"""A question that fails sooner costs nothing to repeat: a connection refused, a command that a full Redis refuses."""


class RedisAway(RedisConnectionError):
    """Redis did not answer a moment ago, and was not asked again."""


class Outage:
    """The memory of one process for one Redis."""

    def __init__(self) -> None:
        self._ends_at = 0.0

    @contextmanager
    def asking(self) -> Iterator[None]:
        """For the length of one question to Redis; raises RedisAway at once while an outage is remembered."""
        began = time.monotonic()
        if began < self._ends_at:
            raise RedisAway("it did not answer a moment ago")
        try:
            yield
        except (RedisError, OperationalError, OSError):
            now = time.monotonic()
            if now - began >= COSTLY_SECONDS:
                self._ends_at = now + REMEMBERED_SECONDS
            raise


@cache
def outage_of(redis_url: str) -> Outage:
    """Return the process's memory for the Redis at a url."""
    return Outage()


def connect(redis_url: str) -> redis.Redis:
    """Build a client with little patience that remembers outages; connections open when they are used."""
    pool = redis.ConnectionPool.from_url(
        redis_url,
        socket_timeout=SOCKET_SECONDS,
        socket_connect_timeout=CONNECT_SECONDS,
        # One more try, for a connection that the server had closed; none where nothing answered.
        retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
    )
    client = _Client(connection_pool=pool)
    client.outage = outage_of(redis_url)
    return client


class _Client(redis.Redis):
    outage: Outage

    def execute_command(self, *args: Any, **options: Any) -> Any:
        with self.outage.asking():
            return super().execute_command(*args, **options)  # type: ignore[no-untyped-call]  # redis-py

    def pipeline(self, transaction: Any = True, shard_hint: Any = None) -> Any:
        pipe = _Pipeline(self.connection_pool, self.response_callbacks, transaction, shard_hint)
        pipe.outage = self.outage
        return pipe


class _Pipeline(Pipeline):
    outage: Outage

    def execute(self, raise_on_error: bool = True) -> Any:
        with self.outage.asking():
            return super().execute(raise_on_error)
