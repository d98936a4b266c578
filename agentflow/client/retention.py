"""The client's verbs on what stays and what goes: prune old runs, read what was done outside of runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from agentflow.client.checks import checked_actor
from agentflow.client.connection import Connected
from agentflow.domain.budget import usd_of
from agentflow.domain.duration import parse_duration
from agentflow.domain.error import UsageError
from agentflow.domain.ids import INSTALLATION_CHAIN
from agentflow.engine.prune import Pruned, check_age, prune, prune_by_batches, survey
from agentflow.storage import views
from agentflow.storage.retention import Prunable
from agentflow.storage.view_shapes import EventView


class Retention(Connected):
    """What takes old runs out of an installation, and reads the audit of what is no run's."""

    def prune(self, older_than: str | timedelta, *, limit: int | None = None) -> Pruned:
        """Take out runs that ended longer ago than ``older_than`` (``"30d"``), the oldest first, at most ``limit``.

        They go with their artifacts; tombstones and what they used stay. Of schedules, the firings go that were
        decided so long ago and whose run is gone, but for the newest of each. Raises UsageError for less than two days.
        """
        actor = checked_actor(self.settings.actor)
        return prune(self._checked_context(), checked_age(older_than), actor, _checked_limit(limit))

    def prunable(self, older_than: str | timedelta, *, limit: int | None = None) -> Prunable:
        """Tell what a pruning would take. Raises UsageError for less than two days."""
        return survey(self.context, checked_age(older_than), _checked_limit(limit))

    def installation_events(self) -> list[EventView]:
        """Read the audit of what is no run's: schedules, stored plans, maintenance, prunings."""
        with self._reading() as tx:
            return views.events_after(tx, INSTALLATION_CHAIN)


def begin_pruning(flow: Retention, older_than: str | timedelta, limit: int | None) -> Iterator[Pruned]:
    """Return what prunes as ``prune`` does while it is gone through, and tells after each batch what it took.

    Raises UsageError for less than two days, at once.
    """
    age, most, actor = checked_age(older_than), _checked_limit(limit), checked_actor(flow.settings.actor)
    check_age(age)
    return prune_by_batches(flow._checked_context(), age, actor, most)  # noqa: SLF001 - a part of the client


def checked_age(older_than: str | timedelta) -> float:
    """Read a duration into seconds. UsageError for anything else."""
    if isinstance(older_than, timedelta):
        return older_than.total_seconds()
    try:
        return parse_duration(older_than)
    except ValueError as error:
        raise UsageError(f"older than: {error}") from None


def _checked_limit(limit: int | None) -> int | None:
    if limit is not None and limit < 1:
        raise UsageError(f"A limit is 1 or more, not {limit}.")
    return limit


@dataclass(slots=True)
class PrunedTotals:
    """What the batches of a pruning took in all; tombstones of a great many runs are not kept for it."""

    runs: int = 0
    first_ended_at: datetime | None = None
    last_ended_at: datetime | None = None
    tokens: int = 0
    usd_nano: int = 0
    firings: int = 0

    def add(self, batch: Pruned) -> None:
        """Count a batch in."""
        ended = [each.ended_at for each in batch.tombstones]
        self.runs += len(ended)
        self.first_ended_at = min((each for each in (self.first_ended_at, *ended) if each), default=None)
        self.last_ended_at = max((each for each in (self.last_ended_at, *ended) if each), default=None)
        self.tokens += batch.tokens
        self.usd_nano += sum(each.usd_nano for each in batch.tombstones)
        self.firings += batch.firings

    def as_json(self) -> dict[str, Any]:
        """The totals as ``prune --json`` prints them."""
        return {
            "schema": "agentflow.prune/1",
            "is_dry_run": False,
            "runs": self.runs,
            "first_ended_at": self.first_ended_at and self.first_ended_at.isoformat(),
            "last_ended_at": self.last_ended_at and self.last_ended_at.isoformat(),
            "tokens": self.tokens,
            "usd": usd_of(self.usd_nano),
            "artifact_bytes": None,
            "firings": self.firings,
        }


def pruned_json(pruned: Pruned) -> Mapping[str, Any]:
    """What was pruned, as ``prune --json`` prints it."""
    totals = PrunedTotals()
    totals.add(pruned)
    return totals.as_json()


def prunable_json(found: Prunable) -> Mapping[str, Any]:
    """What would be pruned, as ``prune --dry-run --json`` prints it."""
    return {
        "schema": "agentflow.prune/1",
        "is_dry_run": True,
        "runs": found.runs,
        "first_ended_at": found.first_ended_at and found.first_ended_at.isoformat(),
        "last_ended_at": found.last_ended_at and found.last_ended_at.isoformat(),
        "tokens": None,
        "usd": None,
        "artifact_bytes": found.artifact_bytes,
        "firings": None,
    }
