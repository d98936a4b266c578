"""Checkpoint: sign what ended and what was pruned since the last time, into a file outside the database.

The line is on the disk before the rows say so: a crash in between makes the next checkpoint hold the same leaves once
more, which does no harm. Lines of one file hang together by their hashes; leaders on other hosts may have other files,
and the numbers, which the database gives, run through all of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC

from agentflow.domain.checkpoint import NO_LINE, Checkpoint, Leaf, hash_of, read_line
from agentflow.engine.append_line import GrowingFile, growing
from agentflow.engine.context import EngineContext
from agentflow.engine.sign import SigningKey, find_or_make_key
from agentflow.storage import checkpoints
from agentflow.telemetry import get_logger

log = get_logger(__name__)

LEAVES = 2000
"""How many leaves a checkpoint holds at most: a line stays below half a megabyte."""


@dataclass(frozen=True, slots=True)
class Signed:
    """A checkpoint that was written; ``has_more`` says that there was more to sign than one holds."""

    number: int
    leaves: int
    has_more: bool


def write_checkpoint(context: EngineContext, every_seconds: float = 0) -> Signed | None:
    """Write one checkpoint; None if there is nothing to sign, or if the last one is younger than ``every_seconds``.

    Whoever else is writing to the same file goes first: None too. ConfigurationError when the key or the file cannot be
    written.
    """
    settings = context.settings
    if _standing(context, every_seconds) is None:
        return None
    key = find_or_make_key(settings)
    with growing(settings.checkpoint_path()) as file:
        if file is None:
            return None
        standing = _standing(context, every_seconds)  # another leader may have written before the lock was had
        if standing is None:
            return None
        with context.database.transaction() as tx:
            leaves = checkpoints.read_unsigned(tx, LEAVES)
        last = file.last_line()
        if not leaves and _holds_head(last, standing):
            return None
        return _append(context, file, key, standing, leaves, last)


def _standing(context: EngineContext, every_seconds: float) -> checkpoints.Standing | None:
    """How far the signing has come; None if it is not time yet."""
    with context.database.transaction() as tx:
        standing = checkpoints.read_standing(tx)
    if standing is None or (standing.age_seconds is not None and standing.age_seconds < every_seconds):
        return None
    return standing


def _holds_head(last: bytes | None, standing: checkpoints.Standing) -> bool:
    """Whether the last line of the file has the head of the installation's own chain as it still stands."""
    if standing.head_sequence == 0:
        return True
    signed = read_line(last) if last is not None else None
    return signed is not None and signed.checkpoint.head_sequence == standing.head_sequence


def _append(
    context: EngineContext,
    file: GrowingFile,
    key: SigningKey,
    standing: checkpoints.Standing,
    leaves: list[Leaf],
    last: bytes | None,
) -> Signed:
    written = read_line(last) if last is not None else None
    checkpoint = Checkpoint(
        # A line that a crash left without a row has a number too.
        number=max(standing.number, written.checkpoint.number if written else 0) + 1,
        at=standing.at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        installation=str(standing.store_id),
        previous=NO_LINE if last is None else hash_of(last),
        head_sequence=standing.head_sequence,
        head=standing.head,
        leaves=tuple(leaves),
        key=key.id,
    )
    line = checkpoint.line(key.sign(checkpoint.signed_bytes()))
    file.append(line)
    note(context, checkpoint, line)
    return Signed(checkpoint.number, len(leaves), has_more=len(leaves) >= LEAVES)


def note(context: EngineContext, checkpoint: Checkpoint, line: bytes) -> None:
    """Note a line that is on the disk; what it holds is signed from now on."""
    with context.database.transaction() as tx:
        is_noted = checkpoints.insert(tx, checkpoint.number, hash_of(line), checkpoint.leaves)
    if is_noted:
        log.info("checkpoint_written", number=checkpoint.number, leaves=len(checkpoint.leaves))
    else:
        log.warning("checkpoint_number_taken", number=checkpoint.number)
