"""Create a webhook: its secret is told once and kept nowhere, see sign_webhook.py."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from agentflow.domain.call import CallProblem
from agentflow.domain.error import InvalidTransition, UsageError
from agentflow.domain.webhook import EventType, Webhook, origin_of, write_secret
from agentflow.engine.context import EngineContext
from agentflow.engine.record import record_outside
from agentflow.engine.sign_webhook import SALT_BYTES, key_of
from agentflow.storage import installations, webhooks
from agentflow.storage.webhooks import NewWebhook

_ID_BYTES = 6


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """What somebody wants to be told: of which types, of which project and plan (None: all), at which address."""

    name: str
    url: str = field(repr=False)
    types: tuple[EventType, ...]
    project: str | None = None
    plan: str | None = None


@dataclass(frozen=True, slots=True)
class WithSecret:
    """A webhook with the secret that it was just given, which nobody can be told again."""

    webhook: Webhook
    secret: str = field(repr=False)


def create_webhook(context: EngineContext, asked: WebhookRequest, actor: str) -> WithSecret:
    """Make a webhook that is told of what happens from now on.

    UsageError for an address that cannot be called, InvalidTransition where its project has one of that name.
    """
    _check_url(context, asked.url)
    made, salt = secrets.token_hex(_ID_BYTES), secrets.token_bytes(SALT_BYTES)
    new = NewWebhook(made, asked.name, asked.url, asked.types, asked.project, asked.plan, salt, actor)
    with context.database.transaction() as tx:
        house = installations.lock(tx)
        webhook = webhooks.insert(tx, new)
        if webhook is None:
            where = "for all projects" if asked.project is None else f"in project {asked.project}"
            raise InvalidTransition(
                f"There is a webhook {asked.name!r} {where} already: remove it first, or take another name",
                name=asked.name,
            )
        facts = {"id": made, "project": asked.project, "plan": asked.plan, "on": list(asked.types)}
        facts["origin"] = origin_of(asked.url)
        subject = f"webhook:{asked.name}"
        record_outside(context, tx, house, actor=actor, action="create_webhook", subject=subject, facts=facts)
    return WithSecret(webhook, write_secret(key_of(context.audit_key, made, salt)))


def _check_url(context: EngineContext, url: str) -> None:
    from agentflow.executors.webhook_call import WebhookCaller  # it loads the libraries of http

    match WebhookCaller(context.settings.http_private_hosts, 0).check(url):
        case None:
            return
        case CallProblem.PRIVATE_ADDRESS:
            raise UsageError(
                f"url: {origin_of(url)} is a private address. AGENTFLOW_HTTP_PRIVATE_HOSTS names those that may be "
                "called; whoever sends needs it too, the workers and beat."
            )
        case _:
            raise UsageError("url: write an address such as https://example.org/hook, without a user or a password.")
