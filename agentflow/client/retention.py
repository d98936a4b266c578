"""The client's verbs on what stays and what goes: prune old runs, read what was done outside of runs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from agentflow.client.checks import checked_actor
from agentflow.client.connection import Connected
from agentflow.domain.duration import parse_duration
from agentflow.domain.error import UsageError
from agentflow.domain.ids import INSTALLATION_CHAIN
from agentflow.engine.prune import Pruned, prune, survey
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


def pruned_json(pruned: Pruned) -> Mapping[str, Any]:
    """What was pruned, as ``prune --json`` prints it."""
    return {
        "schema": "agentflow.prune/1",
        "is_dry_run": False,
        "runs": len(pruned.tombstones),
        "first_ended_at": _first(pruned),
        "last_ended_at": _last(pruned),
        "tokens": pruned.tokens,
        "usd": pruned.usd,
        "artifact_bytes": None,
        "firings": pruned.firings,
    }


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


def _first(pruned: Pruned) -> str | None:
    return min((each.ended_at.isoformat() for each in pruned.tombstones), default=None)


def _last(pruned: Pruned) -> str | None:
    return max((each.ended_at.isoformat() for each in pruned.tombstones), default=None)
