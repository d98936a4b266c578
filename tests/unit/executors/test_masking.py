"""A masked stream never shows a secret, however it is cut into chunks."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentflow.executors.masking import Masker

_few_letters = st.binary(max_size=60).map(lambda data: bytes(b"ab-"[byte % 3] for byte in data))
_secrets = st.lists(_few_letters.filter(lambda secret: 0 < len(secret) < 8), min_size=1, max_size=4)


def masked(secrets: list[bytes], chunks: list[bytes]) -> bytes:
    masker = Masker(secrets)
    return b"".join([*(masker.feed(chunk) for chunk in chunks), masker.flush()])


@given(_secrets, st.lists(_few_letters, max_size=6))
def test_chunks_mask_as_the_whole_stream_would(secrets: list[bytes], chunks: list[bytes]) -> None:
    longest_first = sorted(secrets, key=len, reverse=True)
    whole = re.sub(b"|".join(re.escape(secret) for secret in longest_first), b"***", b"".join(chunks))

    assert masked(secrets, chunks) == whole


@pytest.mark.parametrize("at", range(1, 9))
def test_a_secret_split_at_any_place_is_masked(at: int) -> None:
    secret = b"sesame-42"

    assert masked([secret], [b"key=" + secret[:at], secret[at:] + b"\n"]) == b"key=***\n"


def test_a_secret_in_single_bytes_is_masked() -> None:
    assert masked([b"sesame"], [bytes([byte]) for byte in b"a sesame b"]) == b"a *** b"


def test_the_longer_of_two_secrets_that_begin_alike_wins_over_a_chunk_border() -> None:
    assert masked([b"abc", b"abcdef"], [b"-abc", b"def-abc", b"x"]) == b"-***-***x"


def test_the_end_of_the_stream_decides_for_the_shorter_secret() -> None:
    assert masked([b"abc", b"abcdef"], [b"abcde"]) == b"***de"


def test_only_what_may_begin_a_secret_is_held_back() -> None:
    masker = Masker([b"sesame"])

    assert masker.feed(b"hello\n") == b"hello\n"
    assert masker.feed(b"open ses") == b"open "
    assert masker.feed(b"sion") == b"session"


def test_empty_secrets_mask_nothing() -> None:
    assert masked([b""], [b"text"]) == b"text"
