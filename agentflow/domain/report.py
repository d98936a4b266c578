"""The report of a run: who ran what when, what it took and cost, who decided and who stepped in. Never content.

Owns what a report holds and its JSON. Of a result it knows hash and size, of vars the names, unless values were asked
for; there is no place in it for a prompt, an answer, a stream or an item of a list. Reading the rows is storage's, how
it looks is report_page.py's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

REPORT_SCHEMA = "agentflow.report/1"
INTERVENTIONS = frozenset(
    {
        "abort", "cancel", "cancel_step", "decide", "guide", "modify", "override", "pause", "raise_budget", "reject",
        "resume", "retry", "signal",
    }
)  # fmt: skip
"""The verbs by which somebody steps into a run that goes on or has ended."""
ROUTINE = ("claim", "settle")
"""The events that every attempt leaves; what they tell stands with the attempt."""


@dataclass(frozen=True, slots=True)
class Head:
    """The run itself. ``rested_seconds`` is how long it rested since its start; ``read_at`` is the database's clock.

    Of a run that was pruned several are not known any more.
    """

    run: UUID
    project: str
    plan: str
    fingerprint: str
    directive: str | None
    mode: str | None
    actor: str | None
    state: str
    reason: Mapping[str, Any] | None
    round: int
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    read_at: datetime
    active_seconds: float | None
    rested_seconds: float | None

    @property
    def elapsed_seconds(self) -> float | None:
        """From the start to the end, or until now; None before the start."""
        if self.started_at is None:
            return None
        return max(0.0, ((self.ended_at or self.read_at) - self.started_at).total_seconds())


@dataclass(frozen=True, slots=True)
class Cap:
    """One kind of the run's own budget: usd in dollars, active_time in seconds."""

    budget: str
    limit: float | None
    used: float
    reserved: float
    left: float | None


@dataclass(frozen=True, slots=True)
class Happening:
    """An entry of the timeline. ``moved`` counts the rows that moved, ``old`` and ``new`` are the subject's states."""

    at: datetime
    actor: str
    action: str
    subject: str
    old: str | None
    new: str | None
    moved: int
    reason: Mapping[str, Any] | None
    verdict: str | None
    detail: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Timeline:
    """What happened, in order. ``left_out`` counts, by verb, the events for which there was no room."""

    entries: tuple[Happening, ...]
    left_out: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Result:
    """What is told of a declared result: SHA-256 and bytes of its JSON with sorted keys and without whitespace."""

    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt of a step."""

    number: int
    state: str
    worker: str
    started_at: datetime
    ended_at: datetime | None
    exit_code: int | None
    signal: int | None
    reason: Mapping[str, Any] | None

    @property
    def duration_seconds(self) -> float | None:
        """How long it took; None while it runs."""
        return (self.ended_at - self.started_at).total_seconds() if self.ended_at else None


@dataclass(frozen=True, slots=True)
class StepEntry:
    """A step. ``foreach`` and ``item`` say what made it, ``items`` how many it made, ``choice`` the label it chose."""

    id: str
    action: str
    state: str
    reason: Mapping[str, Any] | None
    foreach: str | None
    item: int | None
    items: int | None
    choice: str | None
    result: Result | None
    attempts: tuple[Try, ...]

    @property
    def duration_seconds(self) -> float:
        """How long its attempts took together."""
        return sum(each.duration_seconds or 0.0 for each in self.attempts)


@dataclass(frozen=True, slots=True)
class ForeachEntry:
    """A foreach: how many items it made, and how the steps that were made for them stand."""

    step: str
    state: str
    items: int
    states: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Route:
    """What a decision chose: the label, out of those of the plan."""

    step: str
    choice: str


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """What the calls of one model used; ``usd`` is the sum of those with a known price."""

    provider: str
    model: str
    calls: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    usd: float
    estimated_calls: int
    unpriced_calls: int


@dataclass(frozen=True, slots=True)
class Said:
    """What one person said to a gate; of what was filled in only the names of the fields."""

    actor: str
    verdict: str
    at: datetime
    why: str | None
    fields: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class GateEntry:
    """A gate and the decisions on it. ``needed`` is how many must approve; no approvers means anyone may."""

    step: str
    kind: str
    state: str
    round: int
    needed: int
    approvers: tuple[str, ...]
    plan_fingerprint: str
    opened_at: datetime
    expires_at: datetime | None
    is_escalated: bool
    decided_at: datetime | None
    decisions: tuple[Said, ...]


@dataclass(frozen=True, slots=True)
class File:
    """A file in the content store, by its size and hash. Kinds: stdout, stderr, file, answer."""

    step: str
    attempt: int
    name: str
    kind: str
    bytes: int
    sha256: str
    media_type: str
    is_cut: bool


@dataclass(frozen=True, slots=True)
class Descent:
    """Which runs it came from and which came from it: forks, and the runs that a step started."""

    forked_from: UUID | None = None
    forked_at_step: str | None = None
    forks: tuple[UUID, ...] = ()
    parent_run: UUID | None = None
    parent_step: str | None = None
    children: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True)
class Audit:
    """Where the run's audit stands: the head of its own chain (hex), and the seal that its last end put on all chains.

    ``checkpoint`` numbers the signed checkpoint that holds the end; None before there is one.
    """

    events: int
    sequence: int | None
    head: str | None
    seal: str | None
    sealed_chains: int | None
    checkpoint: int | None


@dataclass(frozen=True, slots=True)
class Pruned:
    """What is left of a run that was taken out: its tombstone."""

    at: datetime
    by: str
    input_tokens: int
    output_tokens: int
    usd: float


@dataclass(frozen=True, slots=True)
class Report:
    """A run as it is reported. ``vars`` maps names to values where values were asked for, else to None."""

    head: Head
    audit: Audit
    vars: Mapping[str, Any]
    has_vars: bool = False
    budget: tuple[Cap, ...] = ()
    timeline: Timeline = Timeline((), {})
    steps: tuple[StepEntry, ...] = ()
    usage: tuple[ModelEntry, ...] = ()
    gates: tuple[GateEntry, ...] = ()
    interventions: tuple[Happening, ...] = ()
    files: tuple[File, ...] = ()
    lineage: Descent = Descent()
    pruned: Pruned | None = None

    @property
    def counts(self) -> dict[str, int]:
        """How many of the plan's own steps are in each state; what foreachs made stands with them."""
        return dict(Counter(step.state for step in self.steps if step.foreach is None))

    @property
    def routes(self) -> tuple[Route, ...]:
        """What the decisions chose."""
        return tuple(Route(step.id, step.choice) for step in self.steps if step.choice is not None)

    @property
    def foreachs(self) -> tuple[ForeachEntry, ...]:
        """The foreachs that have made their items, in the order of the plan."""
        made: dict[str, Counter[str]] = {}
        for step in self.steps:
            if step.foreach is not None:
                made.setdefault(step.foreach, Counter())[step.state] += 1
        return tuple(
            ForeachEntry(step.id, step.state, step.items, dict(made.get(step.id, {})))
            for step in self.steps
            if step.items is not None
        )

    def as_json(self) -> dict[str, Any]:
        """The report as ``report --format json`` prints it."""
        head = _fields(self.head) | {"elapsed_seconds": self.head.elapsed_seconds}
        return {
            "schema": REPORT_SCHEMA,
            "run": str(self.head.run),
            "summary": {name: value for name, value in head.items() if name != "run"},
            "pruned": _plain(self.pruned),
            "vars": {name: value if self.has_vars else None for name, value in self.vars.items()},
            "has_vars": self.has_vars,
            "budget": _plain(self.budget),
            "counts": self.counts,
            "timeline": _plain(self.timeline),
            "steps": [_step(step) for step in self.steps],
            "foreachs": _plain(self.foreachs),
            "routes": _plain(self.routes),
            "usage": _plain(self.usage),
            "gates": _plain(self.gates),
            "interventions": _plain(self.interventions),
            "artifacts": _plain(self.files),
            "lineage": _plain(self.lineage),
            "audit": _plain(self.audit),
        }


def _step(step: StepEntry) -> dict[str, Any]:
    tries = [_fields(each) | {"duration_seconds": each.duration_seconds} for each in step.attempts]
    return _fields(step) | {"attempts": tries, "duration_seconds": round(step.duration_seconds, 6)}


def _plain(value: Any) -> Any:
    """Return a value as JSON has it."""
    match value:
        case None | str() | bool() | int() | float():
            return value
        case datetime():
            return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        case Mapping():
            return {key: _plain(entry) for key, entry in value.items()}
        case Sequence():
            return [_plain(entry) for entry in value]
        case _ if is_dataclass(value):
            return _fields(value)
        case _:
            return str(value)


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
