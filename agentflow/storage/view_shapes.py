"""The public shapes of runs, steps, attempts, artifacts and events, as surfaces show them.

Owns the fields and their JSON, which is the public contract's: it may grow, it does not change meaning. Reading the
rows behind them is views.py's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from agentflow.domain.budget import BudgetKind
from agentflow.domain.gate_shape import GateView
from agentflow.domain.ids import RunId, StepKey
from agentflow.domain.progress import Progress, progress_of
from agentflow.domain.reason import ReasonCode
from agentflow.domain.state import AttemptState, ShownRunState, StepState

RUN_SCHEMA, EVENT_SCHEMA = "agentflow.run/1", "agentflow.event/1"


def moment(at: datetime | None) -> str | None:
    """Write a time as ISO 8601 in UTC."""
    return None if at is None else at.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class ArtifactView:
    """A file of an attempt. Kinds: stdout, stderr, file, answer; sizes are bytes, ``bytes_seen`` before any cut."""

    step: StepKey
    attempt: int
    name: str
    kind: str
    bytes: int
    bytes_seen: int
    sha256: str
    media_type: str
    is_cut: bool

    @property
    def is_stream(self) -> bool:
        """Whether it is what a command wrote on stdout or stderr."""
        return self.kind in ("stdout", "stderr")

    def as_json(self) -> dict[str, Any]:
        """The artifact as it stands under its step."""
        return {name: getattr(self, name) for name in self.__slots__ if name not in ("step", "attempt")}


@dataclass(frozen=True, slots=True)
class CallView:
    """What an attempt's model call used; ``usd`` is None where the price is unknown.

    ``is_estimated``: the provider did not say, and the upper bound that had been reserved counts.
    """

    provider: str
    model: str
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    reasoning_tokens: int
    usd: float | None
    is_estimated: bool
    finish_reason: str | None
    problem: str | None
    duration_seconds: float

    def as_json(self) -> dict[str, Any]:
        """The call as it stands under its attempt."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class AttemptView:
    """One try of a step. ``retry_at`` is when the next one is due, after a failure that is tried again."""

    number: int
    state: AttemptState
    worker: str
    started_at: datetime
    ended_at: datetime | None
    exit_code: int | None
    signal: int | None
    reason: Mapping[str, Any] | None
    retry_at: datetime | None
    call: CallView | None = None

    @property
    def is_reused(self) -> bool:
        """Whether another run made the attempt, from which this one took it over."""
        return self.reason is not None and self.reason.get("code") == ReasonCode.REUSED

    @property
    def duration_seconds(self) -> float | None:
        """How long the attempt took; None while it runs."""
        return (self.ended_at - self.started_at).total_seconds() if self.ended_at else None

    def as_json(self) -> dict[str, Any]:
        """The attempt as the contract writes it."""
        return {
            "number": self.number,
            "state": self.state.value,
            "worker": self.worker,
            "started_at": moment(self.started_at),
            "ended_at": moment(self.ended_at),
            "duration_seconds": self.duration_seconds,
            "exit_code": self.exit_code,
            "signal": self.signal,
            "reason": self.reason,
            "retry_at": moment(self.retry_at),
            "call": self.call.as_json() if self.call else None,
        }


@dataclass(frozen=True, slots=True)
class StepView:
    """A step with its attempts and the artifacts of the last one; ``result`` is its declared JSON output.

    ``choice`` is the label that a switch chose. ``items`` is how many items a foreach has; ``foreach`` and ``item`` say
    for which foreach, and which item of it, a step was made. What stands inside is no need.
    """

    id: StepKey
    action: str
    needs: tuple[StepKey, ...]
    state: StepState
    reason: Mapping[str, Any] | None
    result: Any
    attempts: tuple[AttemptView, ...]
    artifacts: tuple[ArtifactView, ...]
    choice: str | None = None
    items: int | None = None
    foreach: StepKey | None = None
    item: int | None = None

    def as_json(self) -> dict[str, Any]:
        """The step as the contract writes it."""
        return {
            "id": self.id,
            "action": self.action,
            "needs": list(self.needs),
            "state": self.state.value,
            "reason": self.reason,
            "result": self.result,
            "choice": self.choice,
            "items": self.items,
            "parent": self.foreach,
            "item": self.item,
            "artifacts": [artifact.as_json() for artifact in self.artifacts],
            "attempts": [attempt.as_json() for attempt in self.attempts],
        }


@dataclass(frozen=True, slots=True)
class RunSummary:
    """A run without its steps. ``read_at`` is the database's clock at the reading."""

    id: RunId
    state: ShownRunState
    project: str
    plan_name: str
    plan_fingerprint: str
    actor: str
    reason: Mapping[str, Any] | None
    round: int
    created_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    read_at: datetime

    def head_json(self) -> dict[str, Any]:
        """What a submission answers with."""
        return {
            "schema": RUN_SCHEMA,
            "id": str(self.id),
            "state": self.state.value,
            "project": self.project,
            "plan": {"name": self.plan_name, "fingerprint": self.plan_fingerprint},
        }

    def as_json(self) -> dict[str, Any]:
        """The run as a list shows it."""
        return self.head_json() | {
            "reason": self.reason,
            "actor": self.actor,
            "created_at": moment(self.created_at),
            "started_at": moment(self.started_at),
            "ended_at": moment(self.ended_at),
        }


@dataclass(frozen=True, slots=True)
class Usage:
    """What a run used: attempts of all steps, the seconds in which it did not rest, and those that attempts ran.

    Of its model calls: ``usd`` is the sum of those with a known price, ``unpriced_calls`` counts the others.
    """

    attempts: int
    active_seconds: float
    attempt_seconds: float
    calls: int = 0
    tokens: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    usd: float = 0.0
    estimated_calls: int = 0
    unpriced_calls: int = 0

    def as_json(self) -> dict[str, Any]:
        """The usage as the contract writes it."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class TreeUsage:
    """What a run used together with all runs below it, as its budget counts them."""

    child_runs: int
    attempts: int
    calls: int
    tokens: int
    usd: float
    unpriced_calls: int

    def as_json(self) -> dict[str, Any]:
        """The usage as it stands under its run."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class BudgetLine:
    """One kind of a budget: usd in dollars, active_time in seconds. ``limit`` is None where it is not capped.

    ``reserved`` is what running attempts may use at most.
    """

    budget: BudgetKind
    limit: float | None
    used: float
    reserved: float

    @property
    def left(self) -> float | None:
        """What may still be reserved; None where it is not capped."""
        return None if self.limit is None else round(max(0.0, self.limit - self.used - self.reserved), 9)

    def as_json(self) -> dict[str, Any]:
        """The line as it stands under its scope."""
        return {
            "budget": self.budget.value,
            "limit": self.limit,
            "used": self.used,
            "reserved": self.reserved,
            "left": self.left,
        }


@dataclass(frozen=True, slots=True)
class RunLink:
    """A run above or below another, and the step that started the lower one."""

    run: UUID
    step: str

    def as_json(self) -> dict[str, Any]:
        """The link as it stands under a run."""
        return {"run": str(self.run), "step": self.step}


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a run came from, and which runs came from it, the oldest first.

    ``parent`` is the run and step that a child run is part of, ``children`` are those that steps of it started.
    """

    forked_from: UUID | None = None
    forked_at_step: str | None = None
    forks: tuple[UUID, ...] = ()
    parent: RunLink | None = None
    children: tuple[RunLink, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The lineage as it stands under its run."""
        origin = None if self.forked_from is None else {"run": str(self.forked_from), "step": self.forked_at_step}
        return {
            "forked_from": origin,
            "forks": [str(fork) for fork in self.forks],
            "parent": None if self.parent is None else self.parent.as_json(),
            "children": [child.as_json() for child in self.children],
        }


@dataclass(frozen=True, slots=True)
class WaitingSignal:
    """A signal that no step has taken yet; its data is left out."""

    id: int
    name: str
    actor: str
    at: datetime
    has_data: bool

    def as_json(self) -> dict[str, Any]:
        """The signal as it stands under its run."""
        return {"name": self.name, "actor": self.actor, "at": moment(self.at), "has_data": self.has_data}


@dataclass(frozen=True, slots=True)
class RunView:
    """A run with everything of it that surfaces show; the steps stand in the order of the plan.

    ``usage`` is the run's own, ``tree`` with all runs below it, None where there are none. ``budget`` is how it stands
    with its own caps, which count the runs below it too, empty where it has none. ``lineage`` names its origin and its
    forks. ``gates`` are all that it opened, in that order, then those of runs below it that wait; ``signals`` are
    those that no step has taken. ``events`` counts its audit events, which everything done to it adds to.
    """

    summary: RunSummary
    usage: Usage
    steps: Mapping[str, StepView]
    budget: tuple[BudgetLine, ...] = ()
    lineage: Lineage = Lineage()
    gates: tuple[GateView, ...] = ()
    signals: tuple[WaitingSignal, ...] = ()
    tree: TreeUsage | None = None
    events: int = 0

    @property
    def progress(self) -> Progress:
        """How far the run has come."""
        states = {StepKey(key): step.state for key, step in self.steps.items()}
        return progress_of(states, has_ended=self.summary.ended_at is not None)

    def as_json(self) -> dict[str, Any]:
        """The run as ``show --json`` prints it."""
        steps = [step.as_json() for step in self.steps.values()]
        budget = [line.as_json() for line in self.budget]
        told = {"progress": self.progress.as_json(), "usage": self.usage.as_json(), "budget": budget, "steps": steps}
        gates = {"gates": [view.as_json() for view in self.gates]} if self.gates else {}
        signals = {"signals": [each.as_json() for each in self.signals]} if self.signals else {}
        tree = {"tree_usage": self.tree.as_json()} if self.tree else {}
        return self.summary.as_json() | self.lineage.as_json() | told | tree | gates | signals


@dataclass(frozen=True, slots=True)
class EventView:
    """An audit event as it is read; ``step`` is None in the run's own chain."""

    id: int
    run_id: RunId
    step: StepKey | None
    sequence: int
    at: datetime
    actor: str
    action: str
    subject: str
    moved: Mapping[str, Sequence[str | None]]
    reason: Mapping[str, Any] | None
    verdict: str | None
    facts: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        """The event as a line of ``run --events``."""
        return {
            "schema": EVENT_SCHEMA,
            "run": str(self.run_id),
            "step": self.step,
            "sequence": self.sequence,
            "at": moment(self.at),
            "actor": self.actor,
            "action": self.action,
            "subject": self.subject,
            "moved": self.moved,
            "reason": self.reason,
            "verdict": self.verdict,
            "facts": self.facts,
        }
