"""Queue what webhooks are told: read the events since the last time and make deliveries of them, none missed.

An event's id is given before its transaction commits, so a lower id can appear after a higher one was seen. Up to which
id none can appear any more is found as client/feed.py does: the newest id, then who may be writing events, and once all
of those have ended, that id is settled. Deliveries and the place that was reached are written in one transaction, and a
delivery's id follows from its event: whoever reads a stretch again makes nothing twice. No webhook, no reading.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

from sqlalchemy import Connection

from agentflow.domain.error import NotFound
from agentflow.domain.ids import INSTALLATION_CHAIN
from agentflow.domain.webhook import DISABLING, EVENT_SCHEMA, EventType, Told, Webhook, moment, told_by
from agentflow.engine.context import EngineContext
from agentflow.storage import feeds, steps, views, webhooks
from agentflow.storage.view_shapes import RunSummary
from agentflow.storage.webhooks import NewDelivery, ToldEvent

BATCH = 200
_NAMESPACE = UUID("6a1c4c2e-93d5-4d0b-9a7e-0f0c1b6f2a55")
_STATES: Mapping[EventType, str] = {
    EventType.RUN_COMPLETED: "completed",
    EventType.RUN_PARTIAL: "partial",
    EventType.RUN_FAILED: "failed",
    EventType.RUN_CANCELLED: "cancelled",
    EventType.RUN_PAUSED: "paused",
    EventType.BUDGET_EXHAUSTED: "exhausted",
}
"""The state that an event speaks of, whatever became of the run since."""


@dataclass(slots=True)
class _Awaited:
    """An id that is settled once these writers have ended."""

    newest: int
    writers: frozenset[str]


class WebhookQueue:
    """Makes deliveries of events. One process holds one; several at once take turns."""

    def __init__(self, context: EngineContext) -> None:
        self._context = context
        self._awaited: _Awaited | None = None

    def queue(self) -> bool:
        """Make deliveries of a batch of events; returns whether there is more to read at once."""
        with self._context.database.transaction() as tx:
            told = webhooks.read_enabled(tx)
            if not told:
                self._awaited = None
                return False
            settled = self._settled(tx)
            place = None if settled is None else webhooks.lock_cursor(tx)
            if settled is None or place is None:
                return False
            after = max(place, min(told.values()))
            found = webhooks.read_told(tx, after, settled, BATCH) if after < settled else []
            webhooks.insert_deliveries(tx, [new for event in found for new in _deliveries(tx, event, told)])
            has_more = len(found) == BATCH
            webhooks.move_cursor(tx, found[-1].id if has_more else settled)
        return has_more

    def _settled(self, tx: Connection) -> int | None:
        """Find an id up to which every event is to be seen or will never be; None while that is not known."""
        settled = None
        if self._awaited is not None and not self._awaited.writers & feeds.find_writers(tx):
            settled, self._awaited = self._awaited.newest, None
        if self._awaited is None:
            newest = feeds.read_newest(tx)
            self._awaited = _Awaited(newest, feeds.find_writers(tx))
            if not self._awaited.writers:
                settled, self._awaited = newest, None
        return settled


def _deliveries(tx: Connection, event: ToldEvent, told: Mapping[Webhook, int]) -> Iterator[NewDelivery]:
    """What of an event is told to whom."""
    awake = [webhook for webhook, after in told.items() if after < event.id]
    each = list(enumerate(told_by(event.action, event.moved, event.reason, event.facts)))
    wanted = {what.type for _, what in each} & {name for webhook in awake for name in webhook.types}
    if not wanted:
        return
    subject = _subject(tx, event)
    if subject is None:
        return
    for place, what in each:
        for webhook in awake:
            if webhook.wants(what.type, subject.project, subject.plan):
                made = uuid5(_NAMESPACE, f"{webhook.id} {event.id} {place}")
                run_id = None if event.run_id == INSTALLATION_CHAIN else event.run_id
                body = _body(made, what, event, subject)
                yield NewDelivery(made, webhook.id, what.type, body, run_id, event.id)


@dataclass(frozen=True, slots=True)
class _Subject:
    """What an event is of: the project and the plan by which it is filtered, and its part of the body."""

    project: str | None
    plan: str | None
    told: Mapping[str, Any]


def _subject(tx: Connection, event: ToldEvent) -> _Subject | None:
    """Read what an event is of; None for a run that is gone, of which nobody can say whose it was."""
    if event.run_id == INSTALLATION_CHAIN:
        if event.action != DISABLING:
            return None
        facts = event.facts
        return _Subject(facts["project"], None, {"webhook": {"id": facts["id"], "reason": facts["code"]}})
    try:
        run = views.read_summary(tx, event.run_id)
    except NotFound:  # also where it was pruned
        return None
    return _Subject(run.project, run.plan_name, {"run": _run(tx, run)})


def _run(tx: Connection, run: RunSummary) -> dict[str, Any]:
    counts = steps.count_by_state(tx, run.id).every
    return {
        "id": str(run.id),
        "name": run.plan_name,
        "project": run.project,
        "state": run.state.value,
        "reason": (run.reason or {}).get("code"),
        "round": run.round,
        "steps": {state.value: count for state, count in sorted(counts.items()) if count},
    }


def _body(made: UUID, what: Told, event: ToldEvent, subject: _Subject) -> str:
    told = {name: dict(part) for name, part in subject.told.items()}
    if what.type in _STATES:
        told["run"] |= {"state": _STATES[what.type], "reason": (event.reason or {}).get("code")}
    body = {"schema": EVENT_SCHEMA, "type": what.type.value, "id": str(made), "at": moment(event.at), **told}
    if what.step is not None:
        body["step"] = what.step
    return json.dumps(body, separators=(",", ":"))
