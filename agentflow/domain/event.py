"""Audit events: their canonical bytes, the keyed chain that links them, and the seal over a run.

A run has one chain of its own events and one chain per step. Each event's MAC covers the event and the MAC before it
(HMAC-SHA-256, key outside the database); the event that ends a run also carries the Merkle root over the heads of all
its steps. Pure: the key, the time and the previous MAC are handed in.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from agentflow.domain.ids import RunId, StepId

GENESIS = b"\0" * 32
"""What the first event of every chain follows."""


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One verb call that changed something, naming every row it moved.

    ``moved`` maps a subject (``run``, or a step's key) to ``[old state, new state]``. ``step_id`` is None in the
    run's own chain. ``sequence`` counts from 1 in each chain.
    """

    run_id: RunId
    step_id: StepId | None
    sequence: int
    at: datetime
    actor: str
    action: str
    subject: str
    moved: Mapping[str, list[str | None]] = field(default_factory=dict)
    reason: Mapping[str, Any] | None = None
    verdict: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def canonical_bytes(self) -> bytes:
        """The bytes that the MAC covers: every field, keys sorted, time in UTC with microseconds."""
        fields = {
            "run_id": str(self.run_id),
            "step_id": str(self.step_id) if self.step_id else None,
            "sequence": self.sequence,
            "at": self.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            "actor": self.actor,
            "action": self.action,
            "subject": self.subject,
            "moved": self.moved,
            "reason": self.reason,
            "verdict": self.verdict,
            "facts": self.facts,
        }
        return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def mac_of(event: AuditEvent, previous: bytes, key: bytes) -> bytes:
    """Return the MAC that links ``event`` behind ``previous`` (32 bytes, or GENESIS)."""
    return hmac.new(key, previous + event.canonical_bytes(), hashlib.sha256).digest()


def key_fingerprint(key: bytes) -> str:
    """Name an audit key without telling it: 16 hex digits."""
    return hmac.new(key, b"agentflow audit key", hashlib.sha256).hexdigest()[:16]


def merkle_root(leaves: Iterable[bytes]) -> bytes:
    """Return the Merkle root (SHA-256) over ``leaves`` in the order given; GENESIS for none.

    Leaves and nodes are hashed with different prefixes, and an odd node is carried up (RFC 6962, section 2.1).
    """
    level = [hashlib.sha256(b"\x00" + leaf).digest() for leaf in leaves]
    if not level:
        return GENESIS
    while len(level) > 1:
        paired = [hashlib.sha256(b"\x01" + level[i] + level[i + 1]).digest() for i in range(0, len(level) - 1, 2)]
        level = paired + ([level[-1]] if len(level) % 2 else [])
    return level[0]


def seal_of(heads: Mapping[StepId, tuple[int, bytes]]) -> str:
    """Return the seal over the chains of a run's steps, as hex: number of events and head of each, in id order."""
    leaves = (
        step_id.bytes + sequence.to_bytes(8, "big") + head
        for step_id, (sequence, head) in sorted(heads.items(), key=lambda item: item[0].bytes)
    )
    return merkle_root(leaves).hex()
