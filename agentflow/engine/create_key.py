"""Create a key: its text is told once and kept nowhere, only a hash of its secret."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field

from agentflow.domain.api_key import ApiKey, Role, hash_of, write_key
from agentflow.domain.error import InvalidTransition
from agentflow.engine.context import EngineContext
from agentflow.engine.record import record_outside
from agentflow.storage import api_keys, installations
from agentflow.storage.api_keys import NewKey

_PUBLIC_BYTES, _SECRET_BYTES = 6, 32


@dataclass(frozen=True, slots=True)
class CreatedKey:
    """A new key with its text, which nobody can be told again."""

    key: ApiKey
    text: str = field(repr=False)


def create_key(
    context: EngineContext,
    name: str,
    role: Role,
    actor: str,
    *,
    project: str | None = None,
    lifetime_seconds: float | None = None,
) -> CreatedKey:
    """Make a key. InvalidTransition where a key that was not revoked has the name."""
    public_id, secret = secrets.token_hex(_PUBLIC_BYTES), secrets.token_urlsafe(_SECRET_BYTES)
    new = NewKey(public_id, hash_of(secret), name, role, project, actor, lifetime_seconds)
    with context.database.transaction() as tx:
        house = installations.lock(tx)
        key = api_keys.insert(tx, new)
        if key is None:
            raise InvalidTransition(
                f"There is a key {name!r} already: revoke it first, or take another name", name=name
            )
        facts = {"id": public_id, "role": role.value, "project": project, "expires_at": key.as_json()["expires_at"]}
        record_outside(context, tx, house, actor=actor, action="create_key", subject=f"key:{name}", facts=facts)
    return CreatedKey(key, write_key(public_id, secret))
