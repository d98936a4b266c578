"""Send a delivery to its webhook, and settle how that went. The call is made outside of any transaction.

Whoever dies between the call and the settle leaves the delivery to be sent again under the same id: at least once.
"""

from __future__ import annotations

import json
import random
import time
from typing import TYPE_CHECKING
from uuid import uuid4

from agentflow.domain.error import InvalidTransition, NotFound
from agentflow.domain.webhook import (
    EVENT_SCHEMA,
    PATIENCE_DAYS,
    Delivery,
    DeliveryState,
    Disabled,
    EventType,
    Webhook,
    moment,
    wait_seconds,
)
from agentflow.engine.change_webhook import disable_webhook, find_webhook
from agentflow.engine.context import EngineContext
from agentflow.engine.record import record_outside
from agentflow.engine.sign_webhook import headers_of, key_of
from agentflow.executors.base import Lifeline
from agentflow.storage import installations, webhooks
from agentflow.storage.webhooks import Call, DeliveryFilter, NewDelivery, Outcome
from agentflow.telemetry import get_logger

if TYPE_CHECKING:
    from agentflow.executors.webhook_call import Answered, WebhookCaller

log = get_logger(__name__)

TIMEOUT_SECONDS = 15.0
"""What a webhook may take to answer."""
LEASE_SECONDS = 60.0
"""After which a delivery that was taken and not settled is sent again; longer than a call and its settle take."""
GONE = 410
_DAY_SECONDS = 86_400


def send(context: EngineContext, caller: WebhookCaller, call: Call, lifeline: Lifeline) -> Answered:
    """Make the call of a delivery that was claimed."""
    from agentflow.executors.webhook_call import Message  # it loads the libraries of http

    keys = [key_of(context.audit_key, call.webhook_id, salt) for salt in call.salts]
    headers = headers_of(keys, call.id, int(time.time()), call.body)
    return caller.call(Message(call.url, headers, call.body), lifeline)


def settle(context: EngineContext, call: Call, answered: Answered, actor: str) -> None:
    """Note how a call ended; a webhook that is gone, or that nobody answers for, is disabled."""
    outcome = _outcome(call, answered)
    is_delivered = outcome.state is DeliveryState.DELIVERED
    patience = PATIENCE_DAYS * _DAY_SECONDS
    with context.database.transaction() as tx:
        is_given_up = webhooks.note_outcome(tx, call.webhook_id, patience, is_delivered=is_delivered)
        if not webhooks.settle(tx, call, outcome):
            log.info("webhook_delivery_overtaken", delivery=str(call.id))
    if call.type is EventType.PING:
        return
    if answered.status == GONE:
        _disable(context, call.webhook_id, actor, Disabled.GONE)
    elif is_given_up:
        _disable(context, call.webhook_id, actor, Disabled.FAILING)


def ping_webhook(context: EngineContext, webhook: Webhook, actor: str) -> Delivery:
    """Tell a webhook at once that somebody tries it, also a disabled one, and return what came of it.

    NotFound where it is removed meanwhile.
    """
    from agentflow.executors.webhook_call import WebhookCaller  # it loads the libraries of http

    made = uuid4()
    with context.database.transaction() as tx:
        house = installations.lock(tx)
        told = {"schema": EVENT_SCHEMA, "type": EventType.PING.value, "id": str(made), "at": moment(house.at)}
        body = json.dumps({**told, "webhook": {"id": webhook.id}}, separators=(",", ":"))
        new = NewDelivery(made, webhook.id, EventType.PING, body, attempts=1, wait_seconds=LEASE_SECONDS)
        webhooks.insert_deliveries(tx, [new])
        call = webhooks.read_call(tx, made)
        facts = {"id": webhook.id, "delivery": str(made)}
        subject = f"webhook:{webhook.name}"
        record_outside(context, tx, house, actor=actor, action="test_webhook", subject=subject, facts=facts)
    caller = WebhookCaller(context.settings.http_private_hosts, TIMEOUT_SECONDS)
    settle(context, call, send(context, caller, call, Lifeline(LEASE_SECONDS)), actor)
    with context.database.transaction() as tx:
        found = webhooks.view_deliveries(tx, webhook.id, DeliveryFilter(id=made), 1)
    if not found:
        raise NotFound("The webhook was removed meanwhile.")
    return found[0]


def _outcome(call: Call, answered: Answered) -> Outcome:
    seconds = answered.duration_seconds
    if answered.problem is None:
        return Outcome(DeliveryState.DELIVERED, None, answered.status, seconds, None)
    is_last = answered.status == GONE or call.type is EventType.PING
    jitter = random.uniform(-1, 1)  # noqa: S311 - it spreads tries, and no secret is made of it
    wait = None if is_last else wait_seconds(call.tries, answered.retry_after_seconds, jitter)
    state = DeliveryState.FAILED if wait is None else DeliveryState.PENDING
    return Outcome(state, wait, answered.status, seconds, answered.problem)


def _disable(context: EngineContext, webhook_id: str, actor: str, code: Disabled) -> None:
    try:
        with context.database.transaction() as tx:
            webhook = find_webhook(tx, webhook_id, None)
        disable_webhook(context, webhook, actor, code)
    except (NotFound, InvalidTransition):  # somebody was faster
        return
    log.warning("webhook_disabled", webhook=webhook.name, code=code.value)
