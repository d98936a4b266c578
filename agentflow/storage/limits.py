"""Limits as they stand: the places of concurrency keys, who holds and who waits, and when a rate is next free.

Owns making the places, and the public shape of ``limits``. Handing out places and tickets is sql/claim_step.sql's.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.limit import PACE, ConcurrencyLimit
from agentflow.storage.database import statement
from agentflow.storage.view_shapes import moment

LIMITS_SCHEMA = "agentflow.limits/1"
MOST_SHOWN = 20
"""How many of those that wait for a key are named; all are counted."""


def insert_slots(tx: Connection, wanted: Iterable[ConcurrencyLimit]) -> None:
    """Make the places that the keys of a new run still lack."""
    places: dict[str, int] = {}
    for limit in wanted:
        places[limit.key] = max(limit.limit, places.get(limit.key, 0))
    if places:
        tx.execute(statement("insert_slots"), {"keys": list(places), "limits": list(places.values())})


@dataclass(frozen=True, slots=True)
class WaitingStep:
    """A step that waits for a limit. ``at`` is its ticket's time for a rate, since when it is due for a concurrency."""

    run_id: RunId
    step: StepKey
    at: datetime


@dataclass(frozen=True, slots=True)
class RateView:
    """A rate key. ``interval_seconds`` and ``burst`` are None while no step that is not final names the key."""

    key: str
    interval_seconds: float | None
    burst: int | None
    next_free_at: datetime
    waiting: int
    first_waiting: tuple[WaitingStep, ...]

    @property
    def per_minute(self) -> float | None:
        """The limit as it was written, for a minute."""
        return None if self.interval_seconds is None else round(60 / self.interval_seconds / PACE, 6)

    def as_json(self) -> dict[str, Any]:
        """The rate as ``limits --json`` prints it."""
        return {
            "key": self.key,
            "per_minute": self.per_minute,
            "burst": self.burst,
            "next_free_at": moment(self.next_free_at),
            "waiting": self.waiting,
            "first_waiting": [
                {"run": str(each.run_id), "step": each.step, "ticket_at": moment(each.at)}
                for each in self.first_waiting
            ],
        }


@dataclass(frozen=True, slots=True)
class HolderView:
    """Who holds a place. It is free at ``expires`` at the latest, if nothing is heard of the worker."""

    number: int
    run_id: RunId
    step: StepKey
    worker: str
    since: datetime
    expires: datetime

    def as_json(self) -> dict[str, Any]:
        """The holder as ``limits --json`` prints it."""
        return {
            "place": self.number,
            "run": str(self.run_id),
            "step": self.step,
            "worker": self.worker,
            "since": moment(self.since),
            "expires": moment(self.expires),
        }


@dataclass(frozen=True, slots=True)
class ConcurrencyView:
    """A concurrency key: its places, who holds some, and the line of those that wait."""

    key: str
    places: int
    holders: tuple[HolderView, ...]
    waiting: int
    first_waiting: tuple[WaitingStep, ...]

    def as_json(self) -> dict[str, Any]:
        """The concurrency as ``limits --json`` prints it."""
        return {
            "key": self.key,
            "places": self.places,
            "holders": [holder.as_json() for holder in self.holders],
            "waiting": self.waiting,
            "first_waiting": [
                {"run": str(each.run_id), "step": each.step, "since": moment(each.at)} for each in self.first_waiting
            ],
        }


@dataclass(frozen=True, slots=True)
class LimitsView:
    """Every limit in use, by key."""

    rates: tuple[RateView, ...]
    concurrencies: tuple[ConcurrencyView, ...]

    def as_json(self) -> dict[str, Any]:
        """The limits as ``limits --json`` prints them."""
        return {
            "schema": LIMITS_SCHEMA,
            "rates": [rate.as_json() for rate in self.rates],
            "concurrencies": [concurrency.as_json() for concurrency in self.concurrencies],
        }


@dataclass(slots=True)
class _Line:
    total: int = 0
    first: tuple[WaitingStep, ...] = ()


_Lines = Mapping[tuple[str, str], _Line]


def view(tx: Connection, project: str | None = None) -> LimitsView:
    """Read every limit in use, or those of a project with its own steps; four statements, whatever there is.

    How many wait is counted over all projects: it is what those of one wait for.
    """
    own = {"project": project}
    lines = _read_lines(tx.execute(statement("view_limited_steps"), own | {"most": MOST_SHOWN}).all())
    holders: dict[str, list[HolderView]] = defaultdict(list)
    for key, *holder in tx.execute(statement("view_holders"), own):
        holders[key].append(HolderView(*holder))
    rates = [
        RateView(row.key, row.interval_seconds, row.burst, row.next_free_at, line.total, line.first)
        for row in tx.execute(statement("view_rates"), own)
        for line in (lines["rate", row.key],)
    ]
    concurrencies = [
        ConcurrencyView(row.key, row.places, tuple(holders[row.key]), line.total, line.first)
        for row in tx.execute(statement("view_places"), own)
        for line in (lines["concurrency", row.key],)
    ]
    return LimitsView(tuple(rates), tuple(concurrencies))


def _read_lines(rows: Sequence[Row[Any]]) -> _Lines:
    lines: defaultdict[tuple[str, str], _Line] = defaultdict(_Line)
    for row in rows:
        line = lines[row.kind, row.limit_key]
        line.total = row.total
        if row.is_own:
            line.first += (WaitingStep(RunId(row.run_id), StepKey(row.step), row.at),)
    return lines
