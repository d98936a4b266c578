"""API keys: who may call over the network, as what, where, and until when.

Owns the text of a key, the roles and what each includes. Rows are storage's; secrets are made by the engine.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

KEY_PREFIX = "af"
PUBLIC_LENGTH, SECRET_LENGTH = 12, 43
_TOKEN = re.compile(rf"{KEY_PREFIX}_([0-9a-f]{{{PUBLIC_LENGTH}}})_([A-Za-z0-9_-]{{{SECRET_LENGTH}}})", re.ASCII)


class Role(StrEnum):
    """What the holder of a key may do; each role includes those before it."""

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"

    def includes(self, other: Role) -> bool:
        """Whether this role may do what ``other`` may."""
        order = list(Role)
        return order.index(self) >= order.index(other)


class KeyState(StrEnum):
    """Whether a key opens anything now."""

    VALID = "valid"
    EXPIRED = "expired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key without its secret. ``public_id`` stands in the key's text; no ``project`` means all of them."""

    public_id: str
    name: str
    role: Role
    project: str | None
    state: KeyState
    created_at: datetime
    created_by: str
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    revoked_by: str | None = None
    last_used_at: datetime | None = None

    def as_json(self) -> dict[str, Any]:
        """The key as ``key list --json`` prints it; nothing of its secret is in it."""
        return {
            "id": self.public_id,
            "name": self.name,
            "role": self.role.value,
            "project": self.project,
            "state": self.state.value,
            "created_at": _moment(self.created_at),
            "created_by": self.created_by,
            "expires_at": _moment(self.expires_at),
            "revoked_at": _moment(self.revoked_at),
            "revoked_by": self.revoked_by,
            "last_used_at": _moment(self.last_used_at),
        }


def write_key(public_id: str, secret: str) -> str:
    """Return the text of a key: ``af_``, the id by which it is found, and the secret."""
    return f"{KEY_PREFIX}_{public_id}_{secret}"


def read_key(text: str) -> tuple[str, bytes] | None:
    """Return the public id and the hash of the secret of a key's text; None for what is no key."""
    found = _TOKEN.fullmatch(text)
    return None if found is None else (found[1], hash_of(found[2]))


def hash_of(secret: str) -> bytes:
    """Return what is kept of a secret. A plain SHA-256 suffices: 256 bits of chance leave nothing to guess."""
    return hashlib.sha256(secret.encode("ascii")).digest()


def is_same(kept: bytes, given: bytes) -> bool:
    """Compare two hashes in a time that tells nothing of them."""
    return hmac.compare_digest(kept, given)


def _moment(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
