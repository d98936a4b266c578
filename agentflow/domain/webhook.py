"""Webhooks: who is told of what happens, in which words, and when again where that failed.

Owns the types of what can be told, how they follow from audit events, the signature and the times of tries. Rows are
storage's, secrets and calls the engine's. What is told are codes, counts and labels of the plan, never content.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from agentflow.domain.child import plan_id
from agentflow.domain.ids import StepKey

EVENT_SCHEMA = "agentflow.webhook-event/1"
SECRET_PREFIX = "whsec_"  # noqa: S105 - the beginning of every secret, and no secret
RETRY_SECONDS = (5, 30, 300, 1_800, 7_200, 18_000, 21_600, 36_000)
"""How long to wait after each try that failed; a delivery is given up after about a day."""
MAX_WAIT_SECONDS = 86_400.0
"""The longest wait that the other side may ask for."""
GRACE_SECONDS = 86_400.0
"""How long the secret before the last change is signed with too."""
PATIENCE_DAYS = 5
"""A webhook that nobody answered well for so long is disabled."""


class EventType(StrEnum):
    """What a webhook can be told of."""

    RUN_SUBMITTED = "run.submitted"
    RUN_COMPLETED = "run.completed"
    RUN_PARTIAL = "run.partial"
    RUN_FAILED = "run.failed"
    RUN_CANCELLED = "run.cancelled"
    RUN_PAUSED = "run.paused"
    RUN_RESUMED = "run.resumed"
    RUN_RETRIED = "run.retried"
    STEP_FAILED = "step.failed"
    GATE_OPENED = "gate.opened"
    GATE_DECIDED = "gate.decided"
    BUDGET_EXHAUSTED = "budget.exhausted"
    WEBHOOK_DISABLED = "webhook.disabled"
    PING = "ping"


SUBSCRIBABLE = tuple(each for each in EventType if each is not EventType.PING)
USUAL = (
    EventType.RUN_COMPLETED,
    EventType.RUN_PARTIAL,
    EventType.RUN_FAILED,
    EventType.RUN_CANCELLED,
    EventType.GATE_OPENED,
    EventType.BUDGET_EXHAUSTED,
    EventType.WEBHOOK_DISABLED,
)
"""What is told where nothing was said: ends, and what waits for a person."""
_ENDS: Mapping[str, EventType] = {
    "completed": EventType.RUN_COMPLETED,
    "partial": EventType.RUN_PARTIAL,
    "failed": EventType.RUN_FAILED,
    "cancelled": EventType.RUN_CANCELLED,
}
DISABLING = "disable_webhook"
_VERBS: Mapping[str, EventType] = {
    "pause": EventType.RUN_PAUSED,
    "resume": EventType.RUN_RESUMED,
    "retry": EventType.RUN_RETRIED,
    DISABLING: EventType.WEBHOOK_DISABLED,
}


class DeliveryState(StrEnum):
    """What became of a delivery."""

    PENDING = "pending"
    DELIVERED = "delivered"
    FAILED = "failed"


class Disabled(StrEnum):
    """Why a webhook is told nothing any more."""

    ASKED = "asked"
    """Somebody said so."""
    GONE = "gone"
    """The other side answered 410."""
    FAILING = "failing"
    """Nobody answered well for days."""


TIMED_OUT = "timed_out"
"""The code of a call that did not end in its time."""
NOT_CALLED = "not_called"
"""The code of a call that could not be made, for a reason that lies here; all others are those of domain/call.py."""


@dataclass(frozen=True, slots=True)
class Told:
    """One thing to tell of an event, and the step that it is about."""

    type: EventType
    step: str | None = None


@dataclass(frozen=True, slots=True)
class Webhook:
    """A subscription without its secret. No ``project`` or ``plan`` means all of them.

    ``failing_since``: since then no delivery went well.
    """

    id: str
    name: str
    url: str
    types: tuple[EventType, ...]
    project: str | None
    plan: str | None
    created_at: datetime
    created_by: str
    disabled_at: datetime | None = None
    disabled_by: str | None = None
    disabled_code: Disabled | None = None
    failing_since: datetime | None = None
    delivered_at: datetime | None = None
    previous_secret_until: datetime | None = None

    @property
    def is_enabled(self) -> bool:
        """Whether it is told anything."""
        return self.disabled_at is None

    def wants(self, told: EventType, project: str | None, plan: str | None) -> bool:
        """Whether it is to be told of something in a project and of a plan."""
        return told in self.types and self.project in (None, project) and self.plan in (None, plan)

    def as_json(self, *, has_url: bool = True) -> dict[str, Any]:
        """The public form. The path of an address is often a credential: without ``has_url`` it is left out."""
        return {
            "id": self.id,
            "name": self.name,
            "url": self.url if has_url else origin_of(self.url),
            "on": [each.value for each in self.types],
            "project": self.project,
            "plan": self.plan,
            "state": "enabled" if self.is_enabled else "disabled",
            "disabled": self._disabled_json(),
            "created_at": moment(self.created_at),
            "created_by": self.created_by,
            "failing_since": moment(self.failing_since),
            "delivered_at": moment(self.delivered_at),
            "previous_secret_until": moment(self.previous_secret_until),
        }

    def _disabled_json(self) -> dict[str, Any] | None:
        if self.disabled_at is None:
            return None
        return {"at": moment(self.disabled_at), "by": self.disabled_by, "code": self.disabled_code}


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of telling one webhook of one thing. ``problem`` is a code; ``next_at`` is when it is tried again."""

    id: UUID
    webhook: str
    type: EventType
    state: DeliveryState
    run_id: UUID | None
    event_id: int | None
    attempts: int
    created_at: datetime
    next_at: datetime | None
    last_at: datetime | None
    last_status: int | None
    duration_seconds: float | None
    problem: str | None

    def as_json(self) -> dict[str, Any]:
        """The public form."""
        return {
            "id": str(self.id),
            "webhook": self.webhook,
            "type": self.type.value,
            "state": self.state.value,
            "run": None if self.run_id is None else str(self.run_id),
            "event": self.event_id,
            "attempts": self.attempts,
            "created_at": moment(self.created_at),
            "next_at": moment(self.next_at),
            "last_at": moment(self.last_at),
            "last_status": self.last_status,
            "duration_seconds": self.duration_seconds,
            "problem": self.problem,
        }


def told_by(
    action: str, moved: Mapping[str, Any], reason: Mapping[str, Any] | None, facts: Mapping[str, Any]
) -> Iterator[Told]:
    """Say what an audit event tells the world, by its own words.

    A step is named as the plan has it: the names of what a list made at run time are nobody's business.
    """
    verb = _VERBS.get(action)
    if verb is not None:
        yield Told(verb)
    if "run" in moved:
        old, new = moved["run"]
        if old is None:
            yield Told(EventType.RUN_SUBMITTED)
        if new in _ENDS:
            yield Told(_ENDS[new])
    if (reason or {}).get("code") == "budget_exhausted":
        yield Told(EventType.BUDGET_EXHAUSTED)
    opened = {key for key, gate in (facts.get("opened") or {}).items() if gate["state"] == "open"}
    yield from (Told(EventType.GATE_OPENED, plan_id(StepKey(key))) for key in sorted(opened))
    for key, (_, new) in _steps(moved):
        if new == "failed":
            yield Told(EventType.STEP_FAILED, plan_id(key))
        if facts.get("gate") is not None and new in ("succeeded", "failed"):
            yield Told(EventType.GATE_DECIDED, plan_id(key))


def _steps(moved: Mapping[str, Any]) -> Iterator[tuple[StepKey, Any]]:
    for subject, change in moved.items():
        kind, _, key = subject.partition(":")
        if kind == "step":
            yield StepKey(key), change


def wait_seconds(tries: int, retry_after: float | None, jitter: float) -> float | None:
    """Return how long to wait after the ``tries``-th try failed; None if it was the last. ``jitter`` is -1 to 1.

    What the other side asks for with Retry-After holds where it is longer, up to a day.
    """
    if tries > len(RETRY_SECONDS):
        return None
    usual = RETRY_SECONDS[tries - 1] * (1 + 0.1 * jitter)
    return max(usual, min(retry_after or 0.0, MAX_WAIT_SECONDS))


def write_secret(key: bytes) -> str:
    """Write a secret as the Standard Webhooks have it."""
    return SECRET_PREFIX + base64.b64encode(key).decode()


def signature_of(key: bytes, message_id: str, timestamp: int, body: bytes) -> str:
    """Sign a message as the Standard Webhooks do: HMAC-SHA-256 over id, time and body, with points between them."""
    signed = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def origin_of(url: str) -> str:
    """Leave of an address what is no secret: scheme, host and port."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{rest.split('/')[0].split('?')[0]}/"


def moment(at: datetime | None) -> str | None:
    """Write a time as ISO 8601 in UTC, to the millisecond."""
    return None if at is None else at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
