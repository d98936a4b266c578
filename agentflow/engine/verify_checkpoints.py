"""Verify checkpoints: hold what was signed outside of the database against what the database says now.

What the audit key cannot show, its lines do: a run that is gone with all its events, an end whose tail was cut with its
heads, a database that was set back, a chain that somebody made anew who has the audit key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from agentflow.domain.chain_check import Finding, FindingCode
from agentflow.domain.checkpoint import LeafKind, SignedLine, check_lines
from agentflow.domain.error import UsageError
from agentflow.domain.ids import RunId
from agentflow.engine.append_line import read_lines
from agentflow.engine.context import EngineContext
from agentflow.engine.sign import find_key, verifier
from agentflow.storage import checkpoints, events, installations
from agentflow.storage.checkpoints import KnownEnd

CHUNK = 500


@dataclass(frozen=True, slots=True)
class CheckpointReport:
    """What the check of the signed checkpoints found; ``unchecked`` says why there was nothing to check them by."""

    files: tuple[Path, ...] = ()
    checkpoints: int = 0
    leaves: int = 0
    findings: tuple[tuple[RunId | None, Finding], ...] = field(default=())
    unchecked: str | None = None

    @property
    def is_intact(self) -> bool:
        """Whether nothing is wrong with what could be checked."""
        return not self.findings


def verify_checkpoints(
    context: EngineContext, files: Sequence[Path] = (), public_keys: Sequence[str] = ()
) -> CheckpointReport:
    """Check files of checkpoints, by default the one that this installation has here, against the database.

    By default the public key is that of the key here. UsageError when there is none, or when a file belongs to another
    installation.
    """
    with context.database.transaction() as tx:
        noted = checkpoints.read_all(tx)  # before the files, which may grow meanwhile
        installation = installations.read(tx)
    default = context.settings.checkpoint_path()
    if not files and not default.exists():
        return _without_file(context, default, noted)
    chosen = tuple(files) or (default,)
    lines, findings = _read(chosen, _keys(context, public_keys))
    store_id = str(installation.store_id) if installation else ""
    if any(line.checkpoint.installation != store_id for line in lines):
        raise UsageError("A file holds checkpoints of another installation; give those of this one.")
    findings += ((None, each) for each in _check_numbers(lines, noted))
    findings += _check_leaves(context, lines)
    findings += ((None, each) for each in _check_heads(context, lines))
    leaves = sum(len(line.checkpoint.leaves) for line in lines)
    return CheckpointReport(chosen, len(lines), leaves, tuple(findings))


def _without_file(context: EngineContext, default: Path, noted: Mapping[int, str]) -> CheckpointReport:
    if not noted:
        return CheckpointReport(unchecked="nothing was signed yet")
    if find_key(context.settings) is None:
        return CheckpointReport(
            unchecked=f"there is no file {default} here; give it, or copies of it, with --checkpoints"
        )
    return CheckpointReport((default,), findings=tuple((None, each) for each in _check_numbers([], noted)))


def _keys(context: EngineContext, public_keys: Sequence[str]) -> Sequence[str]:
    if public_keys:
        return public_keys
    own = find_key(context.settings)
    if own is None:
        raise UsageError(
            "The key of the checkpoints is not here: give --public-key, as `agentflow audit key` prints it where the "
            "dispatcher runs."
        )
    return [own.public]


def _read(
    files: Sequence[Path], public_keys: Sequence[str]
) -> tuple[list[SignedLine], list[tuple[RunId | None, Finding]]]:
    verify = verifier(public_keys)
    lines: list[SignedLine] = []
    findings: list[tuple[RunId | None, Finding]] = []
    for path in files:
        genuine, wrong = check_lines(read_lines(path), verify)
        lines += genuine
        findings += ((None, Finding(each.code, f"{path}: {each.message}")) for each in wrong)
    return lines, findings


def _check_numbers(lines: Sequence[SignedLine], noted: Mapping[int, str]) -> Iterator[Finding]:
    """Every number must be in the files: numbers run through those of all leaders, without a gap."""
    there = {line.checkpoint.number for line in lines}
    hashes = {line.sha256 for line in lines}
    last = max((*there, *noted), default=0)
    missing = [number for number in range(1, last + 1) if number not in there]
    for first, until in _ranges(missing):
        which = f"checkpoint {first} is" if first == until else f"checkpoints {first} to {until} are"
        yield Finding(FindingCode.CHECKPOINT_MISSING, f"{which} in none of the files", None, first)
    for number, sha256 in noted.items():
        if number in there and sha256 not in hashes:
            message = f"checkpoint {number} is another one in the files than the database knows"
            yield Finding(FindingCode.CHECKPOINT_ALTERED, message, None, number)


def _ranges(numbers: Sequence[int]) -> Iterator[tuple[int, int]]:
    for _, together in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
        found = [number for _, number in together]
        yield found[0], found[-1]


def _check_leaves(context: EngineContext, lines: Iterable[SignedLine]) -> Iterator[tuple[RunId | None, Finding]]:
    told: set[tuple[RunId, FindingCode]] = set()
    for line in lines:
        for begin in range(0, len(line.checkpoint.leaves), CHUNK):
            with context.database.transaction() as tx:
                known = list(checkpoints.read_known(tx, line.checkpoint.leaves[begin : begin + CHUNK]))
            for end in known:
                finding = judge(end, line.checkpoint.number)
                if finding is not None and (end.leaf.run_id, finding.code) not in told:
                    told.add((end.leaf.run_id, finding.code))
                    yield end.leaf.run_id, finding


def judge(known: KnownEnd, number: int) -> Finding | None:
    """Say what is wrong with an end or a tombstone that was signed, if anything."""
    leaf, stone = known.leaf, known.tombstone
    if leaf.kind is LeafKind.TOMBSTONE:
        if stone is None:
            return _finding(FindingCode.RUN_REMOVED, number, "holds its tombstone, which is gone")
        return None if stone == leaf else _finding(FindingCode.TOMBSTONE_FORGED, number, "holds another tombstone")
    if known.mac is not None:
        if known.mac == leaf.head:
            return None
        return _finding(FindingCode.RECOMPUTED, number, f"holds another event {leaf.sequence} of it", leaf.sequence)
    if stone is not None:
        is_same = (stone.seal, stone.head) == (leaf.seal, leaf.head)
        if stone.round > leaf.round or (stone.round == leaf.round and is_same):
            return None
        return _finding(FindingCode.TOMBSTONE_FORGED, number, "holds another end than its tombstone")
    if known.is_there:
        message = f"holds its end in round {leaf.round}, which is gone: it was set back, or its tail was cut"
        return _finding(FindingCode.ROLLED_BACK, number, message, leaf.sequence)
    return _finding(FindingCode.RUN_REMOVED, number, "holds its end, and it is gone without a tombstone")


def _finding(code: FindingCode, number: int, message: str, sequence: int | None = None) -> Finding:
    return Finding(code, f"checkpoint {number} {message}", None, sequence)


def _check_heads(context: EngineContext, lines: Sequence[SignedLine]) -> Iterator[Finding]:
    """The first head of the installation's own chain that the database does not have any more."""
    with context.database.transaction() as tx:
        chain = events.read_own_chain(tx)
    macs = {event.sequence: mac.hex() for event, mac in chain.recorded} if chain else {}
    for line in sorted(lines, key=lambda each: each.checkpoint.number):
        checkpoint = line.checkpoint
        if checkpoint.head_sequence == 0 or macs.get(checkpoint.head_sequence) == checkpoint.head:
            continue
        is_gone = checkpoint.head_sequence not in macs
        code = FindingCode.ROLLED_BACK if is_gone else FindingCode.RECOMPUTED
        what = "is gone" if is_gone else "is another one"
        message = f"holds event {checkpoint.head_sequence} of the installation's own chain, which {what}"
        yield _finding(code, checkpoint.number, message, checkpoint.head_sequence)
        return
