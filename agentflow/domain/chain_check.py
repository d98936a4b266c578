"""Checking a chain of audit events against its key and its head: what was altered, removed, added, moved or cut.

Pure: reads nothing. Without the key nobody can make a chain that passes; what an attacker with write access to the
whole database can still do, and what stops that, stands in docs/audit.md.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from agentflow.domain.event import GENESIS, AuditEvent, mac_of

Recorded = tuple[AuditEvent, bytes]


class FindingCode(StrEnum):
    """What is wrong with a chain, or with what vouches for it."""

    ALTERED = "altered"
    REMOVED = "removed"
    ADDED = "added"
    SWAPPED = "swapped"
    TAIL_CUT = "tail_cut"
    RECOMPUTED = "recomputed"
    SEAL_BROKEN = "seal_broken"
    SEAL_MISSING = "seal_missing"
    RUN_REMOVED = "run_removed"
    STATE_FORGED = "state_forged"
    TOMBSTONE_FORGED = "tombstone_forged"
    ROLLED_BACK = "rolled_back"
    CHECKPOINT_ALTERED = "checkpoint_altered"
    CHECKPOINT_MISSING = "checkpoint_missing"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong: where in which chain (no step: the run's own), in words."""

    code: FindingCode
    message: str
    step: str | None = None
    sequence: int | None = None


def check_chain(
    recorded: Sequence[Recorded], *, head_sequence: int, head: bytes | None, key: bytes, step: str | None = None
) -> list[Finding]:
    """Check one chain, in order of sequence, against its key and the head that its row carries."""
    findings = [
        Finding(FindingCode.REMOVED, f"event {missing} was removed", step, missing)
        for missing in _gaps(recorded, head_sequence)
    ]
    last = recorded[-1][0].sequence if recorded else 0
    if last < head_sequence:
        findings.append(
            Finding(FindingCode.TAIL_CUT, f"the chain ends at {last}, its head says {head_sequence}", step, last)
        )
    known = [entry for entry in recorded if entry[0].sequence <= head_sequence]
    findings += [
        Finding(FindingCode.ADDED, "this event was added behind the head", step, event.sequence)
        for event, _ in recorded
        if event.sequence > head_sequence
    ]
    findings += _links(known, key, step)
    is_whole = bool(known) and last >= head_sequence
    if is_whole and not findings and not hmac.compare_digest(known[-1][1], head or b""):
        findings.append(Finding(FindingCode.ALTERED, "the head does not fit the last event", step, head_sequence))
    return findings


def _gaps(recorded: Sequence[Recorded], head_sequence: int) -> list[int]:
    """The sequences missing before the last event; what is missing behind it is a cut tail."""
    present = {event.sequence for event, _ in recorded}
    last = max((sequence for sequence in present if sequence <= head_sequence), default=0)
    return [sequence for sequence in range(1, last) if sequence not in present]


def _links(recorded: Sequence[Recorded], key: bytes, step: str | None) -> list[Finding]:
    broken = _broken(recorded, key)
    if broken and len(broken) == len(recorded) > 1 and not _belongs_elsewhere(recorded, broken, key):
        return [
            Finding(FindingCode.RECOMPUTED, "no event fits the key: the chain was recomputed without it", step, None)
        ]
    moved = _belongs_elsewhere(recorded, broken, key)
    return [
        Finding(FindingCode.SWAPPED, f"this event belongs at {moved[sequence]}", step, sequence)
        if sequence in moved
        else Finding(FindingCode.ALTERED, "this event does not fit its MAC", step, sequence)
        for sequence in broken
    ]


def _broken(recorded: Sequence[Recorded], key: bytes) -> list[int]:
    """The sequences of events that do not fit their MAC, behind the MAC that stands before or the one that should."""
    broken = []
    allowed, last = [GENESIS], 0
    for event, mac in recorded:
        if event.sequence == last + 1:
            expected = [mac_of(event, previous, key) for previous in allowed]
            is_fitting = any(hmac.compare_digest(mac, each) for each in expected)
            if not is_fitting:
                broken.append(event.sequence)
            # If only this MAC was altered, the next event still fits the MAC that should stand here.
            allowed = [mac] if is_fitting else [mac, *expected]
        else:
            allowed = [mac]  # behind a gap the link cannot be checked
        last = event.sequence
    return broken


def _belongs_elsewhere(recorded: Sequence[Recorded], broken: Sequence[int], key: bytes) -> dict[int, int]:
    """Of the broken events, those that fit at another broken place: their sequence now, and where they belong."""
    by_sequence = {event.sequence: (event, mac) for event, mac in recorded}
    moved = {}
    for here in broken:
        event, mac = by_sequence[here]
        for there in broken:
            candidates = [GENESIS] if there == 1 else [each[1] for each in by_sequence.values()]
            placed = replace(event, sequence=there)
            if there != here and any(hmac.compare_digest(mac, mac_of(placed, each, key)) for each in candidates):
                moved[here] = there
    return moved
