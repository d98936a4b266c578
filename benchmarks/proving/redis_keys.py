"""Which keys of Redis may be left without an expiry: those that somebody owns who keeps them small."""

from __future__ import annotations

import re

from proving.ground import Ground

_OWNED = re.compile(r"_kombu\.binding|agentflow:(wakeup|budgets|marker)$|unacked(_index)?$")
"""kombu's bindings and the messages that a dead worker had taken (for an hour), the dispatcher's wake-up of one
element, the list of scopes in use, the marker of this server."""


def find_unowned(ground: Ground) -> list[str]:
    """Return every key that has neither an expiry nor an owner, with its type."""
    with ground.redis.client() as client:
        keys = [key for key in client.scan_iter(count=500) if client.ttl(key) == -1]
        named = [(key.decode(errors="replace"), client.type(key).decode()) for key in keys]
    return sorted(f"{name} ({kind})" for name, kind in named if not _OWNED.match(name))
