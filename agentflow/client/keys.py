"""The client's verbs on API keys: make one, list them, revoke one."""

from __future__ import annotations

from datetime import timedelta

from agentflow.client.checks import checked_actor, checked_name
from agentflow.client.conflicts import trying_again
from agentflow.client.connection import Connected
from agentflow.client.plan import plain
from agentflow.domain.api_key import ApiKey, Role
from agentflow.domain.duration import parse_duration
from agentflow.domain.error import UsageError
from agentflow.engine.create_key import CreatedKey, create_key
from agentflow.engine.revoke_key import revoke_key
from agentflow.storage import api_keys


class Keys(Connected):
    """What knows the API keys of an installation."""

    @trying_again
    def create_key(
        self, name: str, role: str, *, project: str | None = None, expires: str | timedelta | None = None
    ) -> CreatedKey:
        """Make a key for the API, of a role (viewer, operator, admin), for one project or for all.

        ``expires`` is after how long it opens nothing any more, such as ``"90d"``; never where it is left out. The
        answer has the key's text, which cannot be told again. Raises UsageError, and InvalidTransition where a key
        that was not revoked has the name.
        """
        return create_key(
            self._checked_context(),
            checked_name("key", name),
            checked_role(role),
            checked_actor(self.settings.actor),
            project=None if project is None else checked_name("project", project),
            lifetime_seconds=_lifetime(expires),
        )

    def keys(self) -> list[ApiKey]:
        """Return all keys without their secrets, those that open something first."""
        with self._reading() as tx:
            return api_keys.view(tx)

    @trying_again
    def revoke_key(self, name: str) -> ApiKey:
        """Let a key open nothing any more, from now on. NotFound where none of that name stands."""
        return revoke_key(self._checked_context(), checked_name("key", name), checked_actor(self.settings.actor))


def checked_role(role: str) -> Role:
    """Check the name of a role. UsageError names those that there are."""
    try:
        return Role(role)
    except ValueError:
        raise UsageError(f"{role!r} is no role of a key; there are {', '.join(Role)}.") from None


def _lifetime(expires: str | timedelta | None) -> float | None:
    if expires is None:
        return None
    try:
        seconds = parse_duration(str(plain(expires)))
    except ValueError as error:
        raise UsageError(f"expires: {error}") from None
    if not seconds:
        raise UsageError("expires: a key that has expired at once opens nothing.")
    return seconds
