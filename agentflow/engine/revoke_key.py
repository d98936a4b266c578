"""Revoke a key: it opens nothing from this commit on."""

from __future__ import annotations

from agentflow.domain.api_key import ApiKey
from agentflow.domain.error import NotFound
from agentflow.domain.wording import did_you_mean
from agentflow.engine.context import EngineContext
from agentflow.engine.record import record_outside
from agentflow.storage import api_keys, installations


def revoke_key(context: EngineContext, name: str, actor: str) -> ApiKey:
    """Revoke the key of a name. NotFound where none of that name stands."""
    with context.database.transaction() as tx:
        house = installations.lock(tx)
        key = api_keys.revoke(tx, name, actor)
        if key is None:
            known = [each.name for each in api_keys.view(tx) if each.revoked_at is None]
            raise NotFound(f"There is no key to revoke of that name: {did_you_mean(name, known)}", name=name)
        facts = {"id": key.public_id, "role": key.role.value, "project": key.project}
        record_outside(context, tx, house, actor=actor, action="revoke_key", subject=f"key:{name}", facts=facts)
    return key
