"""What a fault needs to be made: the ground, the fleet and chance; and what is known of one that was made."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import redis

from proving.crowd import Crowd
from proving.fleet import Fleet, Member
from proving.ground import Ground

Undo = Callable[[], None]
ALL_WORKERS = "%"


@dataclass
class Made:
    """One fault that was made. ``hits`` is a pattern of attempt.worker: whose running attempts it may have ended."""

    kind: str
    at: float
    seconds: float
    hits: str | None
    note: str = ""
    ended_at: float | None = None

    @property
    def until(self) -> float:
        """When it was over."""
        return self.at if self.ended_at is None else self.ended_at


@dataclass
class Arena:
    """Everything within a fault's reach."""

    ground: Ground
    fleet: Fleet
    crowd: Crowd
    rng: random.Random
    stash: dict[str, list[Any]] = field(default_factory=dict)
    """Messages as they were in the queues some time ago."""
    is_stash_kept: bool = False

    @property
    def lease_seconds(self) -> float:
        """How long a claim holds."""
        return self.ground.settings.lease_seconds

    @property
    def old_data(self) -> Path:
        """Where Redis' data of some time ago lie."""
        return self.ground.home / "old-redis"

    def some_worker(self) -> Member | None:
        """A worker whose main process lives."""
        living = self.fleet.workers()
        return self.rng.choice(living) if living else None

    def some_of(self, pids: list[int]) -> int | None:
        """One of some processes."""
        return self.rng.choice(pids) if pids else None

    def leader(self) -> Member | None:
        """The member whose dispatcher leads, as Postgres has it."""
        try:
            with psycopg.connect(self.ground.postgres.url, autocommit=True, connect_timeout=2) as connection:
                row = connection.execute("SELECT holder FROM leader WHERE service = 'dispatcher'").fetchone()
        except psycopg.Error:
            return None
        named = row[0].split("@")[0] if row else ""
        return next((member for member in self.fleet.members if member.name == named), None)

    def remember(self) -> None:
        """Keep what the queues hold and what Redis has on its disk, for faults that bring back the past."""
        try:
            with self.ground.redis.client() as client:
                for queue in ("control", "commands", "models"):
                    self.stash[queue] = (self.stash.get(queue, []) + client.lrange(queue, 0, 200))[-200:]
        except redis.RedisError:
            return
        if not self.is_stash_kept:
            shutil.rmtree(self.old_data, ignore_errors=True)
            try:
                self.ground.redis.keep_data(self.old_data)
            except (OSError, shutil.Error):  # it rewrites its files at this moment
                shutil.rmtree(self.old_data, ignore_errors=True)
                return
            self.is_stash_kept = True


def now() -> float:
    """The time, as Postgres on the same machine tells it."""
    return time.time()
