"""Signed checkpoints: what a line of the file outside the database says, and whether lines hold together.

A checkpoint names the runs that ended and those that were pruned since the one before, and the head of the
installation's own chain. Its line carries the hash of the line before it in the same file and an Ed25519 signature.
Pure: signing and verifying are handed in.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self
from uuid import UUID

from agentflow.domain.chain_check import Finding, FindingCode
from agentflow.domain.event import merkle_root
from agentflow.domain.ids import RunId

FORMAT = 1
NO_LINE = "0" * 64
"""What the first line of a file follows."""

Verifier = Callable[[str, bytes, str], str | None]
"""Given the name of a key, what was signed and the signature (hexadecimal): what is wrong with it, if anything."""


class LeafKind(StrEnum):
    """What a leaf speaks of."""

    RUN = "run"
    TOMBSTONE = "tombstone"


@dataclass(frozen=True, slots=True)
class Leaf:
    """The end of a run, or its tombstone. ``sequence`` and ``head`` are the last of the run's own chain.

    In the leaf of a tombstone, ``sequence`` is the number of all events that went.
    """

    kind: LeafKind
    run_id: RunId
    round: int
    seal: str
    sequence: int
    head: str

    def as_json(self) -> list[Any]:
        """The leaf as the line holds it."""
        return [self.kind.value, str(self.run_id), self.round, self.seal, self.sequence, self.head]

    @classmethod
    def from_json(cls, written: Sequence[Any]) -> Self:
        """Read a leaf back. Raises ValueError and TypeError for what is none."""
        kind, run_id, round_, seal, sequence, head = written
        return cls(LeafKind(kind), RunId(UUID(run_id)), int(round_), str(seal), int(sequence), str(head))


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint. ``previous`` is the hash of the line before it, ``head`` that of the installation's own chain."""

    number: int
    at: str
    installation: str
    previous: str
    head_sequence: int
    head: str
    leaves: tuple[Leaf, ...]
    key: str

    @property
    def root(self) -> str:
        """The Merkle root over the leaves."""
        return merkle_root(_encoded(leaf.as_json()) for leaf in self.leaves).hex()

    def signed_bytes(self) -> bytes:
        """What the signature covers: everything else of the line."""
        return _encoded(self._as_json())

    def line(self, signature: str) -> bytes:
        """The line of the file, without its end."""
        return _encoded(self._as_json() | {"signature": signature})

    def _as_json(self) -> dict[str, Any]:
        return {
            "agentflow_checkpoint": FORMAT,
            "number": self.number,
            "at": self.at,
            "installation": self.installation,
            "previous": self.previous,
            "head": [self.head_sequence, self.head],
            "leaves": [leaf.as_json() for leaf in self.leaves],
            "root": self.root,
            "key": self.key,
        }


@dataclass(frozen=True, slots=True)
class SignedLine:
    """A line that was read: its checkpoint, what signs it and its own hash."""

    checkpoint: Checkpoint
    signature: str
    sha256: str


def _encoded(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")


def hash_of(line: bytes) -> str:
    """Return the hash by which the next line and the database name a line."""
    return hashlib.sha256(line).hexdigest()


def read_line(line: bytes) -> SignedLine | None:
    """Read a line as it was written, byte by byte; None for one that is none, or that was broken off."""
    try:
        written = json.loads(line)
        checkpoint = Checkpoint(
            number=int(written["number"]),
            at=str(written["at"]),
            installation=str(written["installation"]),
            previous=str(written["previous"]),
            head_sequence=int(written["head"][0]),
            head=str(written["head"][1]),
            leaves=tuple(map(Leaf.from_json, written["leaves"])),
            key=str(written["key"]),
        )
        signature = str(written["signature"])
    except (ValueError, TypeError, KeyError, IndexError, AttributeError):
        return None
    return SignedLine(checkpoint, signature, hash_of(line)) if checkpoint.line(signature) == line else None


def check_lines(lines: Sequence[bytes], verify: Verifier) -> tuple[list[SignedLine], list[Finding]]:
    """Check the lines of one file; returns those whose signature holds, and what is wrong.

    A line that a crash broke off is no fault: the line behind it names its hash. The last line may be such a one.
    """
    found, findings, previous = [], [], NO_LINE
    read = [read_line(line) for line in lines]
    for place, (line, signed) in enumerate(zip(lines, read, strict=True), 1):
        if signed is None:
            if not _is_torn(lines, read, place):
                findings.append(_altered(place, "is no checkpoint, or was changed"))
        else:
            number = signed.checkpoint.number
            if signed.checkpoint.previous != previous:
                message = "does not follow the line before it: lines were changed, removed, added or moved"
                findings.append(_altered(place, message, number))
            wrong = verify(signed.checkpoint.key, signed.checkpoint.signed_bytes(), signed.signature)
            if wrong is None:
                found.append(signed)
            else:
                findings.append(_altered(place, wrong, number))
        previous = hash_of(line)
    return found, findings


def _is_torn(lines: Sequence[bytes], read: Sequence[SignedLine | None], place: int) -> bool:
    """Whether the line at ``place`` (from 1) was broken off by a crash, as the line behind it vouches."""
    if place == len(lines):
        return not lines[place - 1].endswith(b"}")
    follower = read[place]
    return follower is not None and follower.checkpoint.previous == hash_of(lines[place - 1])


def _altered(place: int, message: str, number: int | None = None) -> Finding:
    named = f"checkpoint {number} (line {place})" if number is not None else f"line {place}"
    return Finding(FindingCode.CHECKPOINT_ALTERED, f"{named} {message}", None, number)
