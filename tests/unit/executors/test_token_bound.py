"""The bound of a prompt holds for every vocabulary, and counting downloads nothing."""

from __future__ import annotations

import hashlib
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiktoken
from hypothesis import given
from hypothesis import strategies as st

from agentflow.executors import token_bound
from agentflow.executors.providers import Credential, ProviderKind
from agentflow.executors.token_bound import OVERHEAD_TOKENS, SCHEMA_TOKENS, count, most_prompt_tokens

OPENAI = Credential("openai", ProviderKind.OPENAI, "https://api.openai.com/v1")
COMPATIBLE = Credential("own", ProviderKind.OPENAI_COMPATIBLE, "http://127.0.0.1:8000/v1")
# A vocabulary of single bytes: the most tokens that any text can be.
BYTES = tiktoken.Encoding(
    "bytes",
    pat_str=r"[\s\S]",
    mergeable_ranks={bytes([each]): each for each in range(256)},
    special_tokens={"<|end|>": 256},
)


@given(st.text(max_size=200))
def test_the_bound_holds_for_a_vocabulary_of_bytes(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    assert count(BYTES, text) <= most_prompt_tokens(COMPATIBLE, "any", (text,)) - OVERHEAD_TOKENS


def test_every_byte_of_every_text_counts() -> None:
    assert most_prompt_tokens(COMPATIBLE, "any", ("abc", "äöü€")) == OVERHEAD_TOKENS + 3 + 9


def test_a_bracket_may_grow_on_its_way() -> None:
    assert most_prompt_tokens(COMPATIBLE, "any", ("<|im_start|>",)) == OVERHEAD_TOKENS + 12 + 3


def test_a_schema_counts_twice_with_the_words_around_it() -> None:
    schema = {"type": "object"}

    without = most_prompt_tokens(COMPATIBLE, "any", ("x",))
    assert most_prompt_tokens(COMPATIBLE, "any", ("x",), schema) == without + SCHEMA_TOKENS + 2 * 18


def test_text_that_is_no_unicode_has_a_bound_too() -> None:
    assert most_prompt_tokens(COMPATIBLE, "any", ("\ud800",)) == OVERHEAD_TOKENS + 3


def test_what_looks_like_a_mark_of_a_chat_is_counted_as_plain_text() -> None:
    assert count(BYTES, "<|end|>") == 7


@pytest.mark.parametrize("content", [None, b"not what was published"])
def test_a_tokenizer_that_is_not_at_hand_or_was_changed_is_not_fetched(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes | None
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("something asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))
    file = tmp_path / "fb374d419588a4632f3f557e76b4b70aebbca790"  # tiktoken's name for o200k_base
    if content is not None:
        file.write_bytes(content)

    assert most_prompt_tokens(OPENAI, "gpt-4o-mini", ("abc",)) == OVERHEAD_TOKENS + 3
    assert most_prompt_tokens(OPENAI, "a-model-of-tomorrow", ("abc",)) == OVERHEAD_TOKENS + 3
    assert (file.read_bytes() if file.exists() else None) == content


@pytest.mark.parametrize(
    ("base_url", "tokens"),
    [
        ("https://api.openai.com/v1", 1),
        ("https://api.openai.com", 1),
        ("https://api.openai.com.example/v1", 4),
        ("http://127.0.0.1:8000/v1", 4),
        (None, 4),
    ],
)
def test_the_tokenizer_of_openai_counts_for_openai_only(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, base_url: str | None, tokens: int
) -> None:
    """What answers at another OPENAI_BASE_URL may cut a text into more tokens."""
    ranks = {bytes([each]): each for each in range(256)} | {b"ab": 256, b"abab": 257}
    merging = tiktoken.Encoding("merging", pat_str=r"[\s\S]+", mergeable_ranks=ranks, special_tokens={})
    address, file = "https://example.org/merging", b"the file of that vocabulary"
    (tmp_path / hashlib.sha1(address.encode(), usedforsecurity=False).hexdigest()).write_bytes(file)
    monkeypatch.setattr(token_bound, "_FILES", {"o200k_base": (address, hashlib.sha256(file).hexdigest())})
    monkeypatch.setattr(tiktoken, "get_encoding", lambda _name: merging)
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(tmp_path))

    bound = most_prompt_tokens(replace(OPENAI, base_url=base_url), "gpt-4o-mini", ("abab",))

    assert bound == OVERHEAD_TOKENS + tokens
