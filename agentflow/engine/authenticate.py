"""Authenticate: find whose key a caller shows, and refuse it where it opens nothing.

Why a key is refused is told only to who shows its whole secret: to others all wrong keys look alike.
"""

from __future__ import annotations

from agentflow.domain.api_key import ApiKey, KeyState, is_same, read_key
from agentflow.domain.error import Unauthenticated
from agentflow.engine.context import EngineContext
from agentflow.storage import api_keys

_WRONG = "The key is not one of this installation; `agentflow key create` makes one."


def authenticate(context: EngineContext, text: str) -> ApiKey:
    """Return the key of ``text``. Unauthenticated for what is no key, a forged, an expired and a revoked one."""
    read = read_key(text)
    if read is None:
        raise Unauthenticated(_WRONG)
    public_id, given = read
    with context.database.autocommit() as tx:  # each statement stands for itself, and every request makes this one
        known = api_keys.find(tx, public_id)
        if known is None or not is_same(known.secret_sha256, given):
            raise Unauthenticated(_WRONG)
        if known.key.state is not KeyState.VALID:
            raise Unauthenticated(
                f"The key {known.key.name!r} is {known.key.state.value}.", state=known.key.state.value
            )
        if known.is_to_note:
            api_keys.note_use(tx, public_id)
    return known.key
