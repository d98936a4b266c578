"""Webhooks and their deliveries: made, taken, settled, read. A secret is never here, only what it is derived with."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection, Row

from agentflow.domain.error import NotFound
from agentflow.domain.ids import RunId
from agentflow.domain.webhook import Delivery, DeliveryState, Disabled, EventType, Webhook
from agentflow.storage.database import statement, to_json


@dataclass(frozen=True, slots=True)
class NewWebhook:
    """A webhook that is to be made."""

    id: str
    name: str
    url: str
    types: tuple[EventType, ...]
    project: str | None
    plan: str | None
    salt: bytes
    created_by: str


@dataclass(frozen=True, slots=True)
class NewDelivery:
    """Something that a webhook is to be told. ``attempts`` is 1 where whoever makes it also tries it."""

    id: UUID
    webhook_id: str
    type: EventType
    body: str
    run_id: UUID | None = None
    event_id: int | None = None
    attempts: int = 0
    wait_seconds: float = 0


@dataclass(frozen=True, slots=True)
class Call:
    """A delivery that was taken, with what its call needs. The address may hold a credential."""

    id: UUID
    webhook_id: str
    type: EventType
    body: str = field(repr=False)
    attempts: int
    tries: int
    url: str = field(repr=False)
    salts: tuple[bytes, ...] = field(repr=False)
    """With which the secrets that are valid are derived, the newest first."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a try ended; no ``wait_seconds`` means that it is not tried again."""

    state: DeliveryState
    wait_seconds: float | None
    status: int | None
    duration_seconds: float
    problem: str | None


@dataclass(frozen=True, slots=True)
class ToldEvent:
    """What is read of an audit event to tell of it."""

    id: int
    run_id: RunId
    at: datetime
    action: str
    moved: Mapping[str, Any]
    reason: Mapping[str, Any] | None
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which deliveries are wanted; ``before`` is the place of the last one of the page before."""

    state: DeliveryState | None = None
    id: UUID | None = None
    before: tuple[datetime, UUID] | None = None


def insert(tx: Connection, new: NewWebhook) -> Webhook | None:
    """Make a webhook; None where its project has one of that name."""
    parameters = {
        "id": new.id,
        "name": new.name,
        "project": new.project,
        "plan": new.plan,
        "url": new.url,
        "types": to_json(list(new.types)),
        "salt": new.salt,
        "created_by": new.created_by,
    }
    return _one(tx, "insert_webhook", parameters)


def view(tx: Connection, project: str | None = None, reference: str | None = None) -> list[Webhook]:
    """Read the webhooks, or those of a project, of a name or of an id."""
    return [
        _webhook(row) for row in tx.execute(statement("view_webhooks"), {"project": project, "reference": reference})
    ]


def disable(tx: Connection, webhook_id: str, actor: str, code: Disabled) -> Webhook | None:
    """Tell a webhook nothing more; None where it is disabled or gone."""
    return _one(tx, "disable_webhook", {"id": webhook_id, "disabled_by": actor, "code": code})


def enable(tx: Connection, webhook_id: str) -> Webhook | None:
    """Tell a webhook what happens from now on; None where it is enabled or gone."""
    return _one(tx, "enable_webhook", {"id": webhook_id})


def rotate(tx: Connection, webhook_id: str, salt: bytes, grace_seconds: float) -> Webhook | None:
    """Give a webhook another salt; None where it is gone."""
    return _one(tx, "rotate_webhook", {"id": webhook_id, "salt": salt, "grace_seconds": grace_seconds})


def delete(tx: Connection, webhook_id: str) -> Webhook | None:
    """Remove a webhook with its deliveries; None where it is gone."""
    return _one(tx, "delete_webhook", {"id": webhook_id})


def lock_cursor(tx: Connection) -> int | None:
    """Take the place up to which deliveries were made; None while somebody else has it."""
    place: int | None = tx.execute(statement("lock_webhook_cursor")).scalar_one_or_none()
    return place


def move_cursor(tx: Connection, event_id: int) -> None:
    """Note up to which event deliveries were made."""
    tx.execute(statement("move_webhook_cursor"), {"event_id": event_id})


def read_enabled(tx: Connection) -> dict[Webhook, int]:
    """Read the webhooks that are enabled, each with the event after which it is told."""
    return {_webhook(row): row.from_event for row in tx.execute(statement("view_webhook_starts"))}


def read_told(tx: Connection, after_id: int, until_id: int, limit: int) -> list[ToldEvent]:
    """Read up to ``limit`` events of a stretch that may be told to somebody, the earliest first."""
    parameters = {"after_id": after_id, "until_id": until_id, "limit": limit}
    rows = tx.execute(statement("view_told_events"), parameters)
    return [ToldEvent(row.id, RunId(row.run_id), row.at, row.action, row.moved, row.reason, row.facts) for row in rows]


def insert_deliveries(tx: Connection, new: Collection[NewDelivery]) -> None:
    """Let webhooks be told something; what has the id of another delivery is left out."""
    parameters = [
        {
            "id": each.id,
            "webhook_id": each.webhook_id,
            "type": each.type,
            "run_id": each.run_id,
            "event_id": each.event_id,
            "body": each.body,
            "attempts": each.attempts,
            "wait_seconds": each.wait_seconds,
        }
        for each in new
    ]
    if parameters:
        tx.execute(statement("insert_webhook_delivery"), parameters)


def claim(tx: Connection, under_way: Collection[str], each: int, limit: int, lease_seconds: float) -> list[Call]:
    """Take up to ``limit`` due deliveries for ``lease_seconds``, of a webhook ``each`` with its calls ``under_way``."""
    parameters = {"under_way": list(under_way), "each": each, "limit": limit, "lease_seconds": lease_seconds}
    return [_call(row) for row in tx.execute(statement("claim_webhook_deliveries"), parameters)]


def read_call(tx: Connection, delivery_id: UUID) -> Call:
    """Read a delivery with what its call needs. NotFound where its webhook is gone."""
    row = tx.execute(statement("read_webhook_call"), {"id": delivery_id}).one_or_none()
    if row is None:
        raise NotFound("The webhook was removed meanwhile.")
    return _call(row)


def settle(tx: Connection, call: Call, outcome: Outcome) -> bool:
    """Note how a try ended; False where another one has begun meanwhile."""
    parameters = {
        "id": call.id,
        "attempts": call.attempts,
        "state": outcome.state,
        "wait_seconds": outcome.wait_seconds,
        "status": outcome.status,
        "duration_seconds": outcome.duration_seconds,
        "problem": outcome.problem,
    }
    return tx.execute(statement("settle_webhook_delivery"), parameters).one_or_none() is not None


def note_outcome(tx: Connection, webhook_id: str, patience_seconds: float, *, is_delivered: bool) -> bool:
    """Note whether a webhook could be told; True if it is enabled and could not for longer than the patience."""
    parameters = {"id": webhook_id, "is_delivered": is_delivered, "patience_seconds": patience_seconds}
    row = tx.execute(statement("note_webhook_outcome"), parameters).one_or_none()
    return row is not None and bool(row.is_given_up)


def view_deliveries(tx: Connection, webhook_id: str, wanted: DeliveryFilter, limit: int) -> list[Delivery]:
    """Read up to ``limit`` deliveries of a webhook, the newest first."""
    before_at, before_id = wanted.before or (None, None)
    parameters = {
        "webhook_id": webhook_id,
        "state": wanted.state,
        "id": wanted.id,
        "before_at": before_at,
        "before_id": before_id,
        "limit": limit,
    }
    return [_delivery(row) for row in tx.execute(statement("view_webhook_deliveries"), parameters)]


def replay(
    tx: Connection, webhook_id: str, ids: Collection[UUID] | None, since: datetime | None, lease_seconds: float
) -> list[UUID]:
    """Let deliveries be sent again: those of some ids, else all that failed since a time; returns which."""
    parameters = {
        "webhook_id": webhook_id,
        "ids": None if ids is None else list(ids),
        "since": since,
        "lease_seconds": lease_seconds,
    }
    return list(tx.execute(statement("replay_webhook_deliveries"), parameters).scalars())


def prune(tx: Connection, age_seconds: float, keep: int, limit: int) -> int:
    """Forget old deliveries that have ended, and of each webhook all but the ``keep`` newest; returns how many."""
    parameters = {"age_seconds": age_seconds, "keep": keep, "limit": limit}
    return tx.execute(statement("prune_webhook_deliveries"), parameters).rowcount


def _one(tx: Connection, name: str, parameters: Mapping[str, Any]) -> Webhook | None:
    row = tx.execute(statement(name), parameters).one_or_none()
    return None if row is None else _webhook(row)


def _webhook(row: Row[Any]) -> Webhook:
    return Webhook(
        id=row.id,
        name=row.name,
        url=row.url,
        types=tuple(EventType(each) for each in row.types),
        project=row.project,
        plan=row.plan,
        created_at=row.created_at,
        created_by=row.created_by,
        disabled_at=row.disabled_at,
        disabled_by=row.disabled_by,
        disabled_code=None if row.disabled_code is None else Disabled(row.disabled_code),
        failing_since=row.failing_since,
        delivered_at=row.delivered_at,
        previous_secret_until=row.previous_until,
    )


def _call(row: Row[Any]) -> Call:
    salts = [bytes(each) for each in (row.salt, row.previous_salt) if each is not None]
    return Call(row.id, row.webhook_id, EventType(row.type), row.body, row.attempts, row.tries, row.url, tuple(salts))


def _delivery(row: Row[Any]) -> Delivery:
    return Delivery(
        id=row.id,
        webhook=row.webhook,
        type=EventType(row.type),
        state=DeliveryState(row.state),
        run_id=row.run_id,
        event_id=row.event_id,
        attempts=row.attempts,
        created_at=row.created_at,
        next_at=row.next_at,
        last_at=row.last_at,
        last_status=row.last_status,
        duration_seconds=row.duration_seconds,
        problem=row.problem,
    )
