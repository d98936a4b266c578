"""Replay: have past deliveries of a webhook sent again, under the ids that they had."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from agentflow.domain.error import NotFound
from agentflow.domain.webhook import Webhook, moment
from agentflow.engine.context import EngineContext
from agentflow.engine.record import record_outside
from agentflow.engine.send_webhook import LEASE_SECONDS
from agentflow.storage import installations, webhooks


def replay_webhook(
    context: EngineContext,
    webhook: Webhook,
    actor: str,
    *,
    deliveries: Sequence[UUID] = (),
    failed_since: datetime | None = None,
) -> list[UUID]:
    """Let some deliveries, or all that failed since a time, be sent as soon as may be; returns which.

    What failed and waits for its next try is meant too, unless that comes within a lease anyhow. NotFound for a
    delivery that is none of the webhook's, or is to be sent within that: then none is sent.
    """
    with context.database.transaction() as tx:
        house = installations.lock(tx)
        replayed = webhooks.replay(tx, webhook.id, deliveries or None, failed_since, LEASE_SECONDS)
        missing = sorted(str(each) for each in set(deliveries) - set(replayed))
        if missing:
            raise NotFound(
                f"The webhook {webhook.name!r} has no such delivery that has ended or waits long: {', '.join(missing)}",
                name=webhook.name,
                deliveries=missing,
            )
        if replayed:
            facts = {"id": webhook.id, "deliveries": len(replayed), "failed_since": moment(failed_since)}
            subject = f"webhook:{webhook.name}"
            record_outside(context, tx, house, actor=actor, action="replay_webhook", subject=subject, facts=facts)
    context.side_channel.wake()
    return replayed
