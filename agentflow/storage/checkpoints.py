"""Checkpoints: what waits to be signed, what was signed, and what the database knows of it.

The signed lines lie in a file outside; these are the rows beside them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Connection

from agentflow.domain.checkpoint import Leaf, LeafKind
from agentflow.domain.ids import RunId
from agentflow.storage.database import statement


@dataclass(frozen=True, slots=True)
class Standing:
    """The last checkpoint that the database knows, and what came since. ``age_seconds`` is None before the first.

    ``waits_since`` is when the first end or pruning took place that no checkpoint holds.
    """

    store_id: UUID
    head_sequence: int
    head: str
    at: datetime
    number: int
    age_seconds: float | None
    waits_since: datetime | None


@dataclass(frozen=True, slots=True)
class KnownEnd:
    """What the database knows of an end that was signed."""

    leaf: Leaf
    mac: str | None
    seal: str | None
    is_there: bool
    tombstone: Leaf | None


def read_standing(tx: Connection) -> Standing | None:
    """Read how far the signing has come; None before the installation is registered."""
    row = tx.execute(statement("read_last_checkpoint")).one_or_none()
    if row is None:
        return None
    return Standing(
        store_id=row.store_id,
        head_sequence=row.event_sequence,
        head=_hex(row.event_head),
        at=row.at,
        number=row.number,
        age_seconds=None if row.age_seconds is None else float(row.age_seconds),
        waits_since=row.waits_since,
    )


def read_unsigned(tx: Connection, limit: int) -> list[Leaf]:
    """Read up to ``limit`` leaves that no checkpoint holds yet: ends of runs first, then tombstones."""
    ends = [_leaf(LeafKind.RUN, row) for row in tx.execute(statement("read_unsigned_ends"), {"limit": limit})]
    room = {"limit": limit - len(ends)}
    return ends + [_leaf(LeafKind.TOMBSTONE, row) for row in tx.execute(statement("read_unsigned_tombstones"), room)]


def insert(tx: Connection, number: int, sha256: str, leaves: Sequence[Leaf]) -> bool:
    """Note a checkpoint that is on the disk, and which leaves it holds; False if its number is another's."""
    parameters = {"number": number, "sha256": sha256, "leaves": len(leaves)}
    if tx.execute(statement("insert_checkpoint"), parameters).one_or_none() is None:
        return False
    ends = [leaf for leaf in leaves if leaf.kind is LeafKind.RUN]
    stones = [leaf.run_id for leaf in leaves if leaf.kind is LeafKind.TOMBSTONE]
    if ends:
        tx.execute(statement("mark_signed_ends"), {"number": number, **_columns(ends)})
    if stones:
        tx.execute(statement("mark_signed_tombstones"), {"number": number, "run_ids": stones})
    return True


def read_all(tx: Connection) -> dict[int, str]:
    """Read the hash of every checkpoint that the database knows, by number."""
    return {row.number: row.sha256 for row in tx.execute(statement("read_checkpoints"))}


def read_known(tx: Connection, leaves: Sequence[Leaf]) -> Iterator[KnownEnd]:
    """Read what the database knows of some leaves, all of one moment."""
    rows = {(row.run_id, row.sequence): row for row in tx.execute(statement("read_signed_ends"), _columns(leaves))}
    for leaf in leaves:
        row = rows[leaf.run_id, leaf.sequence]
        yield KnownEnd(
            leaf=leaf,
            mac=None if row.mac is None else _hex(row.mac),
            seal=row.seal,
            is_there=row.is_there,
            tombstone=_tombstone(leaf.run_id, row),
        )


def _tombstone(run_id: RunId, row: Any) -> Leaf | None:
    if row.tombstone_round is None:
        return None
    return Leaf(
        LeafKind.TOMBSTONE,
        run_id,
        row.tombstone_round,
        row.tombstone_seal,
        row.tombstone_events,
        _hex(row.tombstone_head),
    )


def _columns(leaves: Iterable[Leaf]) -> dict[str, Any]:
    pairs = [(leaf.run_id, leaf.sequence) for leaf in leaves]
    return {"run_ids": [run_id for run_id, _ in pairs], "sequences": [sequence for _, sequence in pairs]}


def _leaf(kind: LeafKind, row: Any) -> Leaf:
    return Leaf(kind, RunId(row.run_id), row.round, row.seal, row.sequence, _hex(row.head))


def _hex(stored: Any) -> str:
    return bytes(stored or b"").hex()
