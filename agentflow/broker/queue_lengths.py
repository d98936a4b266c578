"""How many messages wait in queues, asked of Redis directly and quickly.

Owns the names of kombu's lists: the prefix of the installation before them, one list a priority behind. It never waits
for long, so that a thread may ask every few seconds, and a report while Redis is away.
"""

from __future__ import annotations

from collections.abc import Sequence

import redis
from kombu.transport.redis import Channel
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

TIMEOUT_SECONDS = 1.5


class QueueLengths:
    """One owner's way to the lengths of queues; ``read`` again and again."""

    def __init__(self, client: redis.Redis, prefix: str = "") -> None:
        self._client = client
        self._prefix = prefix

    @classmethod
    def connect(cls, redis_url: str, prefix: str = "") -> QueueLengths:
        """Use a connection of its own, which gives up soon."""
        client = redis.Redis.from_url(
            redis_url,
            socket_timeout=TIMEOUT_SECONDS,
            socket_connect_timeout=TIMEOUT_SECONDS,
            retry=Retry(NoBackoff(), 1),
        )
        return cls(client, prefix)

    def read(self, queues: Sequence[str]) -> dict[str, int] | None:
        """Return how many messages wait in each queue; None when Redis does not answer in time."""
        try:
            pipe = self._client.pipeline(transaction=False)
            lists = [(queue, key) for queue in queues for key in self._lists(queue)]
            for _, key in lists:
                pipe.llen(key)
            found = pipe.execute()
        except (RedisError, OSError):
            return None
        lengths = dict.fromkeys(queues, 0)
        for (queue, _), length in zip(lists, found, strict=True):
            lengths[queue] += length
        return lengths

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _lists(self, queue: str) -> list[str]:
        suffixes = [f"{Channel.sep}{priority}" if priority else "" for priority in Channel.priority_steps]
        return [f"{self._prefix}{queue}{suffix}" for suffix in suffixes]
