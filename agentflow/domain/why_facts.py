"""What is known of a run when somebody asks why it does not go on: one snapshot, as plain values.

Owns the shapes only. Postgres fills them (storage/standing_facts.py), Redis adds how many messages wait, and why.py
decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from agentflow.domain.budget import Budget
from agentflow.domain.gate import Groups
from agentflow.domain.gate_shape import GateView
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.state import RunState, StepState

Stored = Mapping[str, Any]
"""A reason as rows hold it, ``{code, detail}``, or a pause."""


@dataclass(frozen=True, slots=True)
class AttemptFacts:
    """The attempt of a step that runs."""

    number: int
    worker: str
    started_at: datetime
    lease_until: datetime
    is_stop_requested: bool = False
    is_yield_requested: bool = False


@dataclass(frozen=True, slots=True)
class HolderFacts:
    """Who holds a place of a concurrency key."""

    run_id: UUID
    step: StepKey
    worker: str
    since: datetime
    lease_until: datetime
    project: str


@dataclass(frozen=True, slots=True)
class SuspectFacts:
    """The suspect that runs or whose message is out: the others wait for it."""

    run_id: UUID
    step: StepKey
    state: StepState
    project: str


@dataclass(frozen=True, slots=True)
class LineFacts:
    """A due step's place in the line of its concurrency key: 1 is next. ``free`` places are those that it may take."""

    turn: int
    free: int
    limit: int
    holders: tuple[HolderFacts, ...] = ()


@dataclass(frozen=True, slots=True)
class ItemsFacts:
    """The items of a foreach that waits for them: all, those that ended, and those whose turn it is not yet."""

    items: int
    done: int
    awaiting: int


@dataclass(frozen=True, slots=True)
class TurnFacts:
    """The foreach that gives an item its turn, as max_parallel lets it: how many are under way, and how many wait."""

    foreach: StepKey
    item: int
    under_way: int
    awaiting: int


@dataclass(frozen=True, slots=True)
class StepFacts:
    """A step as it stands.

    ``needs`` are those that are not final yet. ``newness`` counts the doorbells of its queue from the newest, its own
    being one of them. ``asking`` counts the doorbells that are out to ask its rate for a ticket. ``choice`` is what a
    switch chose; ``gate`` is the one that it waits at. ``items`` are a foreach's, ``turn`` is what an item awaits.
    ``has_logs``: what an attempt of it wrote was kept.
    """

    key: StepKey
    position: int
    state: StepState
    queue: str
    reason: Stored | None = None
    attempts: int = 0
    not_before: datetime | None = None
    sent_at: datetime | None = None
    newness: int | None = None
    attempt: AttemptFacts | None = None
    needs: tuple[StepKey, ...] = ()
    slot_key: str | None = None
    line: LineFacts | None = None
    rate_key: str | None = None
    has_ticket: bool = False
    asking: int = 0
    is_suspect: bool = False
    choice: str | None = None
    gate: GateView | None = None
    items: ItemsFacts | None = None
    turn: TurnFacts | None = None
    has_logs: bool = False


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """A worker that names a queue; ``is_serving`` it, or it did until ``seen_at``."""

    name: str
    is_serving: bool
    seen_at: datetime
    slots: int
    busy: int = 0


@dataclass(frozen=True, slots=True)
class QueueFacts:
    """A queue. ``depth``: messages in it, None where Redis does not answer; ``outstanding``: doorbells by the rows."""

    name: str
    depth: int | None = None
    outstanding: int = 0
    workers: tuple[WorkerFacts, ...] = ()

    @property
    def serving(self) -> tuple[WorkerFacts, ...]:
        """Those that take messages from it."""
        return tuple(worker for worker in self.workers if worker.is_serving)


@dataclass(frozen=True, slots=True)
class LeaderFacts:
    """Who led the dispatchers last, for which term, and whether that term holds."""

    holder: str
    term: int
    expires_at: datetime
    is_leading: bool


@dataclass(frozen=True, slots=True)
class StandingFacts:
    """A run with its own reasons: how many steps it has by state, and its caps as they stand now."""

    id: RunId
    state: RunState
    reason: Stored | None = None
    paused: Stored | None = None
    exhausted: tuple[Stored, ...] = ()
    maintenance: Stored | None = None
    caps: Budget = field(default_factory=Budget)
    tally: Mapping[StepState, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Terms:
    """The settings that are gone by: when a doorbell is lost, how many are out a queue, and to ask a rate; who is in
    which group of approvers.
    """

    lost_doorbell_seconds: float = 3.0
    doorbells_per_queue: int = 1000
    asks: int = 32
    groups: Groups = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything at ``now``, the database's clock. ``steps`` are the open ones, and the one that was asked for.

    ``seen_by`` is the project of who asks, to whom runs of others are not named; None for who may see all.
    """

    now: datetime
    run: StandingFacts
    steps: Mapping[StepKey, StepFacts]
    queues: Mapping[str, QueueFacts]
    leader: LeaderFacts | None
    terms: Terms = field(default_factory=Terms)
    suspect: SuspectFacts | None = None
    seen_by: str | None = None

    def shows(self, project: str) -> bool:
        """Whether runs of a project may be named to who asks."""
        return self.seen_by in (None, project)
