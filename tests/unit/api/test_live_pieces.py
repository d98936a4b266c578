"""What a listener lacks goes out in pieces, whole and in order."""

from __future__ import annotations

from agentflow.api.live_streams import PIECE_BYTES, in_pieces


def test_what_a_listener_lacks_goes_out_in_pieces() -> None:
    bodies = [bytes([number]) * 100_000 for number in range(20)]

    pieces = list(in_pieces(bodies))

    assert b"".join(pieces) == b"".join(bodies)
    assert max(map(len, pieces)) < PIECE_BYTES + 100_000


def test_nothing_is_no_piece() -> None:
    assert list(in_pieces([])) == []
