"""What `doctor` asks Redis and the workers about themselves. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import redis
from celery import Celery
from redis.exceptions import RedisError, ResponseError

from agentflow.domain.error import ServersUnreachable

CONNECT_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class RedisFacts:
    """What the server says of itself. ``policy`` is None where the server does not tell (managed ones often do not)."""

    name: str
    version: str
    max_bytes: int
    policy: str | None
    persistence: str

    @property
    def may_evict(self) -> bool:
        """Whether it would drop messages when its memory is full."""
        return self.max_bytes > 0 and self.policy not in (None, "noeviction")


def read_redis(redis_url: str) -> RedisFacts:
    """Ask the server. ServersUnreachable: it does not answer, or refuses the password."""
    client = redis.Redis.from_url(redis_url, socket_timeout=CONNECT_SECONDS, socket_connect_timeout=CONNECT_SECONDS)
    try:
        facts: dict[str, Any] = dict(client.info("everything"))
        persistence = "append-only file" if facts.get("aof_enabled") else _snapshots(client)
    except (RedisError, OSError) as error:
        raise ServersUnreachable(f"Redis does not answer: {error}") from error
    finally:
        client.close()
    return RedisFacts(
        name="Valkey" if "valkey_version" in facts else "Redis",
        version=str(facts.get("valkey_version") or facts.get("redis_version", "?")),
        max_bytes=int(facts.get("maxmemory", 0)),
        policy=facts.get("maxmemory_policy"),
        persistence=persistence,
    )


def _snapshots(client: redis.Redis) -> str:
    try:
        return "snapshots" if dict(client.config_get("save")).get("save") else "none"
    except ResponseError:  # managed servers often refuse CONFIG
        return "unknown"


def live_queues(app: Celery, timeout_seconds: float = 2.0) -> dict[str, list[str]]:
    """Ask all workers which queues they serve; returns the sorted names by worker, of those that answered in time."""
    answers = app.control.inspect(timeout=timeout_seconds).active_queues() or {}
    return {worker: sorted(queue["name"] for queue in queues) for worker, queues in sorted(answers.items())}
