"""Tombstones: what stays of a run that was pruned, and how an audit event vouches for those of one batch.

Pure. The rows are storage's; who prunes is engine/prune.py's.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from agentflow.domain.budget import usd_of
from agentflow.domain.event import merkle_root
from agentflow.domain.ids import RunId
from agentflow.domain.state import RunState


@dataclass(frozen=True, slots=True)
class Tombstone:
    """A run that was pruned: who it was, how it ended, its seal and what it used. ``event_head`` is hexadecimal."""

    run_id: RunId
    project: str
    plan_name: str
    plan_fingerprint: str
    state: RunState
    created_at: datetime
    ended_at: datetime
    round: int
    seal: str
    event_count: int
    event_head: str
    input_tokens: int
    output_tokens: int
    usd_nano: int
    pruned_by: str
    pruned_at: datetime

    def as_json(self) -> dict[str, Any]:
        """The tombstone as the details of an error name it."""
        return {
            "run": str(self.run_id),
            "project": self.project,
            "plan": self.plan_name,
            "state": self.state.value,
            "created_at": self.created_at.isoformat(),
            "ended_at": self.ended_at.isoformat(),
            "input_tokens": self.input_tokens,
            "output_tokens": self.output_tokens,
            "usd": usd_of(self.usd_nano),
            "pruned_by": self.pruned_by,
            "pruned_at": self.pruned_at.isoformat(),
        }

    def canonical_bytes(self) -> bytes:
        """Every field, keys sorted, times in UTC with microseconds."""
        fields = {slot: _plain(getattr(self, slot)) for slot in self.__slots__}
        return json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def batch_root(tombstones: Iterable[Tombstone]) -> str:
    """Return the Merkle root over the tombstones of one batch, in the order of their runs' ids."""
    ordered = sorted(tombstones, key=lambda each: each.run_id.bytes)
    return merkle_root(each.canonical_bytes() for each in ordered).hex()


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return value if isinstance(value, int) else str(value)
