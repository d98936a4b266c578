"""Sign what a webhook is told: its secret, derived when it is needed, and the headers of a message.

A secret is HKDF(audit key, salt of the webhook, its id), so none lies in the database: who reads all of it can sign
nothing. To encrypt secrets would take a key at the same places, and rows that must be encrypted again with another key.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from agentflow.domain.webhook import signature_of

KEY_BYTES = 32
SALT_BYTES = 32


def key_of(audit_key: bytes, webhook_id: str, salt: bytes) -> bytes:
    """Derive the key that a webhook's messages are signed with (RFC 5869)."""
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), KEY_BYTES, salt, b"agentflow webhook " + webhook_id.encode()).derive(audit_key)


def headers_of(keys: Sequence[bytes], message_id: UUID, timestamp: int, body: str) -> dict[str, str]:
    """Return the headers of a message: its id, the time of this try, and a signature by each valid secret."""
    signatures = [signature_of(key, str(message_id), timestamp, body.encode()) for key in keys]
    return {
        "webhook-id": str(message_id),
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(signatures),
    }
