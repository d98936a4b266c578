"""Recording: the one audit event that a verb leaves, linked behind the chain it belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from agentflow.domain.event import GENESIS, AuditEvent, mac_of
from agentflow.domain.ids import INSTALLATION_CHAIN, RunId, StepId, StepKey
from agentflow.domain.reason import Reason
from agentflow.domain.state import StepState
from agentflow.engine.context import EngineContext
from agentflow.storage import events, installations


@dataclass(frozen=True, slots=True)
class ChainHead:
    """Where a chain stands: the next event gets ``sequence + 1``. No step means the run's own chain."""

    run_id: RunId
    step_id: StepId | None
    sequence: int
    head: bytes | None


@dataclass(slots=True)
class Moves:
    """The rows that a verb moved, as its event names them."""

    by_subject: dict[str, list[str | None]] = field(default_factory=dict)
    noted: dict[str, dict[str, Any]] = field(default_factory=dict)
    """What the engine decided on the way, by kind and step; part of the event's facts."""

    def note(self, kind: str, key: StepKey, value: Any) -> None:
        """Note what was decided about a step, such as the label that it chose; never content."""
        self.noted.setdefault(kind, {})[key] = value

    def add_run(self, old: str | None, new: str) -> None:
        """Note that the run moved; of several moves within one verb the ends are kept, whichever is noted first."""
        first, last = self.by_subject.get("run", [old, old])
        self.by_subject["run"] = [old, last] if first == new else [first, new]

    def add_step(self, key: StepKey, old: str | None, new: str) -> None:
        """Note that a step moved; of several moves within one verb the ends are kept, unless they are the same."""
        name = f"step:{key}"
        first = self.by_subject.pop(name, [old])[0]
        if first != new:
            self.by_subject[name] = [first, new]

    def of_steps(self) -> Iterator[tuple[StepKey, str | None, str | None]]:
        """The steps that moved, each with its old and its new state."""
        for subject, (old, new) in self.by_subject.items():
            kind, _, key = subject.partition(":")
            if kind == "step":
                yield StepKey(key), old, new

    @property
    def has_held(self) -> bool:
        """Whether a step is held now: the dispatcher must learn when to look at it."""
        return any(new == StepState.HELD for _, _, new in self.of_steps())

    def add_steps(self, keys: Iterable[StepKey], old: str | None, new: str) -> None:
        """Note that steps moved together."""
        for key in keys:
            self.add_step(key, old, new)


def record(
    context: EngineContext,
    tx: Connection,
    chain: ChainHead,
    *,
    at: datetime,
    actor: str,
    action: str,
    subject: str,
    moves: Moves,
    reason: Reason | None = None,
    verdict: str | None = None,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Append the verb's event; the caller holds the row that carries the chain's head."""
    event = AuditEvent(
        run_id=chain.run_id,
        step_id=chain.step_id,
        sequence=chain.sequence + 1,
        at=at,
        actor=actor,
        action=action,
        subject=subject,
        moved=moves.by_subject,
        reason=reason.as_json() if reason else None,
        verdict=verdict,
        facts={**(facts or {}), **moves.noted},
    )
    events.append(tx, event, mac_of(event, chain.head or GENESIS, context.audit_key))


def record_outside(
    context: EngineContext,
    tx: Connection,
    house: installations.LockedInstallation,
    *,
    actor: str,
    action: str,
    subject: str,
    reason: Reason | None = None,
    facts: Mapping[str, Any] | None = None,
) -> None:
    """Append the event of a verb that changed something outside of runs, such as ``schedule:ops/nightly``.

    The caller holds the installation's row (``installations.lock``), locked before anything else; one event a lock.
    """
    chain = ChainHead(INSTALLATION_CHAIN, None, house.event_sequence, house.event_head)
    record(
        context,
        tx,
        chain,
        at=house.at,
        actor=actor,
        action=action,
        subject=subject,
        moves=Moves(),
        reason=reason,
        facts=facts,
    )
