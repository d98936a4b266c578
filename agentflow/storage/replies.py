"""Replies: the answers that were given under idempotency keys, for as long as they are kept."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from agentflow.storage.database import statement

KEPT_SECONDS = 24 * 3600.0
_DELETED_AT_ONCE = 100
"""Above one for each that is begun, so that what is old gets less."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request under a caller's idempotency key; ``public_id`` is that of the caller's API key."""

    public_id: str
    idempotency_key: str
    request_sha256: bytes


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer; without ``body`` it was not to be kept."""

    status: int
    location: str | None
    body: str | None


@dataclass(frozen=True, slots=True)
class Standing:
    """What stands under a key: which request, since when, and its answer where there is one."""

    request_sha256: bytes
    begun_at: datetime
    reply: Reply | None


def begin(tx: Connection, asked: Asked) -> datetime | None:
    """Note that a request is being answered, and forget some that are old; None where the key is taken."""
    tx.execute(statement("delete_old_replies"), {"kept_seconds": KEPT_SECONDS, "most": _DELETED_AT_ONCE})
    parameters = {"request_sha256": asked.request_sha256, "kept_seconds": KEPT_SECONDS, **_named(asked)}
    begun_at: datetime | None = tx.execute(statement("begin_reply"), parameters).scalar_one_or_none()
    return begun_at


def read(tx: Connection, asked: Asked) -> Standing | None:
    """Read what stands under a key."""
    row = tx.execute(statement("read_reply"), _named(asked)).one_or_none()
    if row is None:
        return None
    reply = None if row.status is None else Reply(row.status, row.location, row.body)
    return Standing(bytes(row.request_sha256), row.begun_at, reply)


def finish(tx: Connection, asked: Asked, begun_at: datetime, reply: Reply) -> None:
    """Keep an answer."""
    told = {"status": reply.status, "location": reply.location, "body": reply.body}
    tx.execute(statement("finish_reply"), {**_named(asked), "begun_at": begun_at, **told})


def forget(tx: Connection, asked: Asked, begun_at: datetime) -> None:
    """Let go of a key whose request came to nothing."""
    tx.execute(statement("forget_reply"), {**_named(asked), "begun_at": begun_at})


def _named(asked: Asked) -> dict[str, str]:
    return {"public_id": asked.public_id, "idempotency_key": asked.idempotency_key}
