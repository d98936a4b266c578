"""Lines of checkpoints: written and read byte by byte, and hanging together."""

from __future__ import annotations

from dataclasses import replace
from uuid import UUID

import pytest

from agentflow.domain.chain_check import FindingCode
from agentflow.domain.checkpoint import NO_LINE, Checkpoint, Leaf, LeafKind, check_lines, hash_of, read_line
from agentflow.domain.ids import RunId

LEAF = Leaf(LeafKind.RUN, RunId(UUID(int=7)), 1, "ab" * 32, 2, "cd" * 32)
FIRST = Checkpoint(1, "2026-11-21T00:00:00.000000Z", str(UUID(int=1)), NO_LINE, 3, "ef" * 32, (LEAF,), "00" * 8)


def _verify(key: str, signed: bytes, signature: str) -> str | None:
    return None if (key, signature) == (FIRST.key, hash_of(signed)) else "is not genuine"


def _line(checkpoint: Checkpoint) -> bytes:
    return checkpoint.line(hash_of(checkpoint.signed_bytes()))


def _chain(*numbers: int) -> list[bytes]:
    lines: list[bytes] = []
    for number in numbers:
        lines.append(_line(replace(FIRST, number=number, previous=hash_of(lines[-1]) if lines else NO_LINE)))
    return lines


def test_a_line_is_read_as_it_was_written() -> None:
    signed = read_line(_line(FIRST))

    assert signed is not None
    assert signed.checkpoint == FIRST
    assert signed.sha256 == hash_of(_line(FIRST))


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"null",
        b"[1]",
        b"\xff",
        _line(FIRST)[:-1],
        _line(FIRST) + b" ",
        _line(FIRST).replace(b":1", b":1.0"),
    ],
)
def test_what_is_not_written_so_is_no_line(line: bytes) -> None:
    assert read_line(line) is None


def test_every_field_is_signed() -> None:
    others = (
        replace(FIRST, number=2),
        replace(FIRST, at="x"),
        replace(FIRST, installation="x"),
        replace(FIRST, previous="x"),
        replace(FIRST, head_sequence=4),
        replace(FIRST, head="x"),
        replace(FIRST, leaves=()),
        replace(FIRST, leaves=(replace(LEAF, seal="x"),)),
        replace(FIRST, key="x"),
    )

    assert len({each.signed_bytes() for each in (FIRST, *others)}) == 10


def test_lines_that_hang_together_have_no_fault() -> None:
    found, findings = check_lines(_chain(1, 2, 5), _verify)

    assert [line.checkpoint.number for line in found] == [1, 2, 5]
    assert findings == []


def test_a_torn_line_is_vouched_for_by_the_one_behind_it() -> None:
    [first] = _chain(1)
    torn = first[:50]
    follower = _line(replace(FIRST, number=2, previous=hash_of(torn)))

    assert check_lines([first, torn, follower], _verify)[1] == []
    assert check_lines([first, torn], _verify)[1] == []
    assert [each.code for each in check_lines([first, torn, _chain(1, 2)[1]], _verify)[1]] == [
        FindingCode.CHECKPOINT_ALTERED,
        FindingCode.CHECKPOINT_ALTERED,
    ]


def test_a_changed_line_is_named_and_so_is_the_one_that_followed_it() -> None:
    first, second, third = _chain(1, 2, 3)
    changed = second.replace(b'"run"', b'"tombstone"', 1)

    found, findings = check_lines([first, changed, third], _verify)

    assert [line.checkpoint.number for line in found] == [1, 3]
    assert [each.sequence for each in findings if each.code is FindingCode.CHECKPOINT_ALTERED] == [None, 3]
