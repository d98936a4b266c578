"""Change a webhook: disable it, enable it, give it another secret, remove it."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

from sqlalchemy import Connection

from agentflow.domain.error import InvalidTransition, NotFound, UsageError
from agentflow.domain.webhook import DISABLING, GRACE_SECONDS, Disabled, Webhook, moment, write_secret
from agentflow.domain.wording import did_you_mean
from agentflow.engine.context import EngineContext
from agentflow.engine.create_webhook import WithSecret
from agentflow.engine.record import record_outside
from agentflow.engine.sign_webhook import SALT_BYTES, key_of
from agentflow.storage import installations, webhooks

_Change = Callable[[Connection, str], Webhook | None]


def find_webhook(tx: Connection, reference: str, project: str | None) -> Webhook:
    """Find the webhook of a name or an id, among all or those of a project.

    NotFound where there is none, UsageError where several projects have one of that name.
    """
    found = webhooks.view(tx, project, reference)
    if not found:
        known = [each.name for each in webhooks.view(tx, project)]
        raise NotFound(f"There is no such webhook: {did_you_mean(reference, known)}", name=reference)
    if len(found) > 1:
        ids = ", ".join(f"{each.id} ({each.project or 'all projects'})" for each in found)
        raise UsageError(f"There are several webhooks {reference!r}: name one by its id, {ids}.")
    return found[0]


def enable_webhook(context: EngineContext, webhook: Webhook, actor: str) -> Webhook:
    """Tell it of what happens from now on, and of what waited. InvalidTransition where it is enabled."""
    return _changed(context, webhook, actor, "enable_webhook", webhooks.enable, "is enabled already")


def disable_webhook(context: EngineContext, webhook: Webhook, actor: str, code: Disabled = Disabled.ASKED) -> Webhook:
    """Tell it nothing more. InvalidTransition where it is disabled."""

    def disable(tx: Connection, webhook_id: str) -> Webhook | None:
        return webhooks.disable(tx, webhook_id, actor, code)

    return _changed(context, webhook, actor, DISABLING, disable, "is disabled already", code=code)


def remove_webhook(context: EngineContext, webhook: Webhook, actor: str) -> Webhook:
    """Remove it with the history of its deliveries. InvalidTransition where somebody was faster."""
    return _changed(context, webhook, actor, "remove_webhook", webhooks.delete, "is gone")


def rotate_webhook(context: EngineContext, webhook: Webhook, actor: str) -> WithSecret:
    """Give it another secret; for a day what it is told is signed with the one before too."""
    salt = secrets.token_bytes(SALT_BYTES)

    def rotate(tx: Connection, webhook_id: str) -> Webhook | None:
        return webhooks.rotate(tx, webhook_id, salt, GRACE_SECONDS)

    changed = _changed(context, webhook, actor, "rotate_webhook", rotate, "is gone")
    return WithSecret(changed, write_secret(key_of(context.audit_key, webhook.id, salt)))


def _changed(
    context: EngineContext, webhook: Webhook, actor: str, action: str, change: _Change, refusal: str, **more: Any
) -> Webhook:
    with context.database.transaction() as tx:
        house = installations.lock(tx)
        changed = change(tx, webhook.id)
        if changed is None:
            raise InvalidTransition(f"The webhook {webhook.name!r} {refusal}.", name=webhook.name)
        facts = {"id": webhook.id, "project": webhook.project, **more}
        if changed.previous_secret_until is not None:
            facts["previous_secret_until"] = moment(changed.previous_secret_until)
        subject = f"webhook:{webhook.name}"
        record_outside(context, tx, house, actor=actor, action=action, subject=subject, facts=facts)
    return changed
