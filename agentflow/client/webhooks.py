"""The client's verbs on webhooks: who is told of what happens, and what became of telling them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

from agentflow.client.checks import checked_actor, checked_name
from agentflow.client.conflicts import trying_again
from agentflow.client.connection import Connected
from agentflow.client.page import MAX_PAGE, cursor_after, place_of
from agentflow.client.plan import plain
from agentflow.domain.duration import parse_duration
from agentflow.domain.error import UsageError
from agentflow.domain.webhook import SUBSCRIBABLE, USUAL, Delivery, DeliveryState, EventType, Webhook
from agentflow.engine.change_webhook import (
    disable_webhook,
    enable_webhook,
    find_webhook,
    remove_webhook,
    rotate_webhook,
)
from agentflow.engine.create_webhook import WebhookRequest, WithSecret, create_webhook
from agentflow.engine.replay_webhook import replay_webhook
from agentflow.storage import webhooks
from agentflow.storage.webhooks import DeliveryFilter

MAX_URL_LENGTH = 2000


@dataclass(frozen=True, slots=True)
class DeliveryPage:
    """Some deliveries, the newest first; ``next_cursor`` asks for those after them, None at the end."""

    deliveries: tuple[Delivery, ...]
    next_cursor: str | None


class Webhooks(Connected):
    """What knows the webhooks of an installation.

    A webhook is named by its name or its id; ``project`` looks only among those of a project. NotFound where there is
    none, UsageError where several projects have one of that name.
    """

    @trying_again
    def create_webhook(
        self,
        name: str,
        url: str,
        *,
        on: Sequence[str] | None = None,
        project: str | None = None,
        plan: str | None = None,
    ) -> WithSecret:
        """Have ``url`` told what happens from now on, of one project and of plans of one name, or of all.

        ``on`` are types such as ``"run.failed"``; without it ends of runs, gates that open and budgets that are
        exhausted are told. The answer has the secret that messages are signed with, which cannot be told again.
        Raises UsageError, and InvalidTransition where the project has one of that name.
        """
        asked = WebhookRequest(
            checked_name("webhook", name),
            _checked_url(url),
            USUAL if on is None else checked_types(on),
            project=None if project is None else checked_name("project", project),
            plan=None if plan is None else checked_name("plan", plan),
        )
        return create_webhook(self._checked_context(), asked, checked_actor(self.settings.actor))

    def webhooks(self, *, project: str | None = None) -> list[Webhook]:
        """Return all webhooks, or those of a project, by name."""
        with self._reading() as tx:
            return webhooks.view(tx, project)

    def webhook(self, reference: str, *, project: str | None = None) -> Webhook:
        """Return one webhook."""
        with self._reading() as tx:
            return find_webhook(tx, str(reference), project)

    def webhook_deliveries(
        self,
        reference: str,
        *,
        project: str | None = None,
        state: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> DeliveryPage:
        """Return up to ``limit`` (at most 1000) deliveries of a webhook, the newest first, from ``cursor`` on.

        ``state`` is pending, delivered or failed. Those that ended are kept for 14 days, at most 10,000 of a webhook.
        """
        if not 0 < limit <= MAX_PAGE:
            raise UsageError(f"A page has 1 to {MAX_PAGE} deliveries, not {limit}.")
        wanted = DeliveryFilter(_checked_state(state), before=place_of(cursor) if cursor else None)
        with self._reading() as tx:
            found = webhooks.view_deliveries(tx, find_webhook(tx, str(reference), project).id, wanted, limit + 1)
        return DeliveryPage(tuple(found[:limit]), cursor_after(found[limit - 1]) if len(found) > limit else None)

    def test_webhook(self, reference: str, *, project: str | None = None) -> Delivery:
        """Send a ping at once, from here, and return what came of it; it is not tried again."""
        from agentflow.engine.send_webhook import ping_webhook  # it loads the libraries of http

        webhook = self.webhook(reference, project=project)
        return ping_webhook(self._checked_context(), webhook, checked_actor(self.settings.actor))

    @trying_again
    def replay_webhook(
        self,
        reference: str,
        deliveries: Sequence[str | UUID] = (),
        *,
        project: str | None = None,
        failed_since: str | timedelta | datetime | None = None,
    ) -> list[UUID]:
        """Have past deliveries sent again under their ids, or all that failed since a time; returns which.

        ``failed_since`` is a time, or how long ago, such as ``"2h"``. What failed and waits for its next try is sent
        now too. Raises UsageError, and NotFound for a delivery that is none of the webhook's or is about to be sent.
        """
        if bool(deliveries) == (failed_since is not None):
            raise UsageError("Give the ids of deliveries, or since when all that failed are to be sent again.")
        since = None if failed_since is None else _checked_since(failed_since)
        ids = [_checked_id(each) for each in deliveries]
        webhook, context = self.webhook(reference, project=project), self._checked_context()
        actor = checked_actor(self.settings.actor)
        return replay_webhook(context, webhook, actor, deliveries=ids, failed_since=since)

    @trying_again
    def enable_webhook(self, reference: str, *, project: str | None = None) -> Webhook:
        """Tell a webhook again: of what happens from now on, and of what waited. Raises InvalidTransition."""
        webhook = self.webhook(reference, project=project)
        return enable_webhook(self._checked_context(), webhook, checked_actor(self.settings.actor))

    @trying_again
    def disable_webhook(self, reference: str, *, project: str | None = None) -> Webhook:
        """Tell a webhook nothing more; what waits, waits until it is enabled. Raises InvalidTransition."""
        webhook = self.webhook(reference, project=project)
        return disable_webhook(self._checked_context(), webhook, checked_actor(self.settings.actor))

    @trying_again
    def rotate_webhook(self, reference: str, *, project: str | None = None) -> WithSecret:
        """Give a webhook another secret; for a day messages are signed with the one before too."""
        webhook = self.webhook(reference, project=project)
        return rotate_webhook(self._checked_context(), webhook, checked_actor(self.settings.actor))

    @trying_again
    def remove_webhook(self, reference: str, *, project: str | None = None) -> Webhook:
        """Remove a webhook with the history of its deliveries."""
        webhook = self.webhook(reference, project=project)
        return remove_webhook(self._checked_context(), webhook, checked_actor(self.settings.actor))


def checked_types(names: Sequence[str]) -> tuple[EventType, ...]:
    """Check the names of what is to be told. UsageError tells all that are none, and those that there are."""
    if isinstance(names, str) or not names:
        raise UsageError(f"on takes a list of one or more of {', '.join(SUBSCRIBABLE)}.")
    known = {each.value: each for each in SUBSCRIBABLE}
    unknown = [str(name)[:80] for name in names if name not in known]
    if unknown:
        raise UsageError(f"on: {', '.join(map(repr, unknown))} is nothing to be told of; there are {', '.join(known)}.")
    return tuple(dict.fromkeys(known[name] for name in names))


def _checked_url(url: object) -> str:
    if not isinstance(url, str) or not 0 < len(url) <= MAX_URL_LENGTH or not url.isprintable() or "#" in url:
        raise UsageError(f"url: write an address of at most {MAX_URL_LENGTH} characters, without a fragment.")
    return url


def _checked_state(state: str | None) -> DeliveryState | None:
    try:
        return None if state is None else DeliveryState(state)
    except ValueError:
        raise UsageError(f"{state!r} is no state of a delivery; there are {', '.join(DeliveryState)}.") from None


def _checked_id(delivery: object) -> UUID:
    try:
        return UUID(str(delivery))
    except ValueError:
        raise UsageError(f"{str(delivery)[:80]!r} is no id of a delivery.") from None


def _checked_since(since: str | timedelta | datetime) -> datetime:
    try:
        if isinstance(since, str) and since[:1].isdigit() and "-" in since:
            since = datetime.fromisoformat(since)
        if isinstance(since, datetime):
            return since if since.tzinfo else since.replace(tzinfo=UTC)
        return datetime.now(UTC) - timedelta(seconds=parse_duration(str(plain(since))))
    except ValueError as error:
        raise UsageError(f"failed_since: {error}") from None
