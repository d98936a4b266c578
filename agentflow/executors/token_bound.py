"""The most tokens that a prompt can be: counted where OpenAI is called and its tokenizer is at hand, else one a byte.

Owns that bound. A tokenizer is used only if its file lies in TIKTOKEN_CACHE_DIR already, whole and unchanged: nothing
is ever downloaded. What a model answers is bounded by max_tokens, not here.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from agentflow.executors.providers import Credential
from agentflow.settings import variable_from_environment

if TYPE_CHECKING:
    from tiktoken import Encoding

OVERHEAD_TOKENS = 64
"""Around every request: the roles, the marks of a chat template and the system text that some templates add."""
SCHEMA_TOKENS = 400
"""Around an output_schema: a provider's own words about it (Anthropic counts up to 346 for tools)."""
_JOINER_BYTES = 3
"""Of the invisible character that pydantic-ai may put behind a bracket, so that no text passes for a mark of a chat."""
_BRACKETS = "<[]"
_CACHE_VARIABLE = "TIKTOKEN_CACHE_DIR"
_FILES: Mapping[str, tuple[str, str]] = {
    "o200k_base": (
        "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken",
        "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    ),
    "cl100k_base": (
        "https://openaipublic.blob.core.windows.net/encodings/cl100k_base.tiktoken",
        "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
    ),
}
"""Where tiktoken has an encoding from, which gives the file in its cache its name, and the SHA-256 of that file."""


def most_prompt_tokens(
    credential: Credential | None, name: str, texts: tuple[str, ...], output_schema: Mapping[str, Any] | None = None
) -> int:
    """Return the most tokens that ``texts`` (system and prompt) and a schema are to the model ``name``.

    One token a byte holds for every vocabulary made of bytes, and for those that fall back to bytes. Something else in
    OpenAI's place may have any of them; so may a provider that this process has no credential of.
    """
    encoding = _cached_encoding(name) if credential is not None and credential.is_openais_own else None
    spoken = sum(_bytes_bound(text) if encoding is None else count(encoding, text) for text in texts)
    return OVERHEAD_TOKENS + spoken + (_schema_bound(output_schema) if output_schema is not None else 0)


def count(encoding: Encoding, text: str) -> int:
    """Return how many tokens a text is; what looks like a mark of a chat counts as the plain text that it is."""
    return len(encoding.encode(text, disallowed_special=()))


def _schema_bound(schema: Mapping[str, Any]) -> int:
    """Some models get it twice: as the form of the answer, and in the instructions."""
    return SCHEMA_TOKENS + 2 * _bytes_bound(json.dumps(schema, ensure_ascii=False))


def _bytes_bound(text: str) -> int:
    brackets = sum(text.count(bracket) for bracket in _BRACKETS)
    return len(text.encode("utf-8", "surrogatepass")) + _JOINER_BYTES * brackets


def _cached_encoding(name: str) -> Encoding | None:
    folder = variable_from_environment(_CACHE_VARIABLE)
    return None if folder is None else _encoding(name, folder)


@cache
def _encoding(name: str, folder: str) -> Encoding | None:
    from tiktoken import get_encoding
    from tiktoken.model import encoding_name_for_model

    try:
        encoding = encoding_name_for_model(name)
    except KeyError:
        return None
    if encoding not in _FILES:
        return None
    address, sha256 = _FILES[encoding]
    file = Path(folder) / hashlib.sha1(address.encode(), usedforsecurity=False).hexdigest()
    try:
        is_whole = hashlib.sha256(file.read_bytes()).hexdigest() == sha256
    except OSError:
        return None
    return get_encoding(encoding) if is_whole else None
