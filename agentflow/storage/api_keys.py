"""API keys: made, found, noted as used, revoked. No secret is ever here, only its hash."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection

from agentflow.domain.api_key import ApiKey, KeyState, Role
from agentflow.storage.database import statement

NOTED_SECONDS = 60.0
"""How exactly the last use of a key is known: a write for each call would cost more than the calls."""


@dataclass(frozen=True, slots=True)
class KnownKey:
    """A key as a caller's is held against it."""

    key: ApiKey
    secret_sha256: bytes
    is_to_note: bool


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that is to be made; no ``lifetime_seconds`` means for ever."""

    public_id: str
    secret_sha256: bytes
    name: str
    role: Role
    project: str | None
    created_by: str
    lifetime_seconds: float | None


def insert(tx: Connection, new: NewKey) -> ApiKey | None:
    """Make a key; None where a key that was not revoked has its name."""
    row = tx.execute(
        statement("insert_api_key"),
        {
            "public_id": new.public_id,
            "secret_sha256": new.secret_sha256,
            "name": new.name,
            "role": new.role,
            "project": new.project,
            "created_by": new.created_by,
            "seconds": new.lifetime_seconds,
        },
    ).one_or_none()
    return None if row is None else _key(row)


def revoke(tx: Connection, name: str, actor: str) -> ApiKey | None:
    """Revoke the key of a name; None where there is none that stands."""
    row = tx.execute(statement("revoke_api_key"), {"name": name, "revoked_by": actor}).one_or_none()
    return None if row is None else _key(row)


def find(tx: Connection, public_id: str) -> KnownKey | None:
    """Find the key of a public id, whatever its state."""
    parameters = {"public_id": public_id, "noted_seconds": NOTED_SECONDS}
    row = tx.execute(statement("find_api_key"), parameters).one_or_none()
    return None if row is None else KnownKey(_key(row), bytes(row.secret_sha256), row.is_to_note)


def note_use(tx: Connection, public_id: str) -> None:
    """Note that a key was used now."""
    tx.execute(statement("note_key_use"), {"public_id": public_id})


def view(tx: Connection) -> list[ApiKey]:
    """Read all keys, those that open something first."""
    return [_key(row) for row in tx.execute(statement("view_api_keys"))]


def _key(row: Any) -> ApiKey:
    return ApiKey(
        public_id=row.public_id,
        name=row.name,
        role=Role(row.role),
        project=row.project,
        state=KeyState(row.state),
        created_at=row.created_at,
        created_by=row.created_by,
        expires_at=row.expires_at,
        revoked_at=row.revoked_at,
        revoked_by=row.revoked_by,
        last_used_at=row.last_used_at,
    )
