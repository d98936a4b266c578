"""A signal: a name, with data, that a person or a program sends to a run for a step that waits for it.

Owns which names there are and what data may be: it becomes the result of a step, and so must fit into its row.
"""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import JsonValue

from agentflow.domain.error import UsageError
from agentflow.domain.plan import NAME_PATTERN
from agentflow.domain.wording import shorten

MAX_DATA_BYTES = 64 * 1024
MAX_WAITING = 1_000
"""How many signals of a run may wait for steps at a time."""


def is_signal_name(text: str) -> bool:
    """Whether a signal can have this name."""
    return re.match(NAME_PATTERN, text, re.ASCII) is not None


def checked_name(name: str) -> str:
    """Return the name of a signal. UsageError for what is none."""
    if not is_signal_name(name):
        raise UsageError(
            f"{shorten(name)!r} is no name of a signal: start with a letter, a digit or _, then also . and -, at "
            "most 100 characters."
        )
    return name


def checked_data(data: Any) -> JsonValue:
    """Return what a signal brings along, as plain data. UsageError, which does not quote it, for what cannot be kept.

    It is JSON of at most 64 KiB; keys are texts, and no text in it holds NUL or half a surrogate pair.
    """
    try:
        text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        size = len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"The data of a signal must be JSON that can be stored ({type(error).__name__}).") from None
    if size > MAX_DATA_BYTES:
        raise UsageError(f"The data of a signal has at most {MAX_DATA_BYTES:,} bytes of JSON, not {size:,}.")
    plain: JsonValue = json.loads(text)
    if _holds_nul(plain):
        raise UsageError("A text in the data of a signal holds NUL, which cannot be stored.")
    return plain


def _holds_nul(value: JsonValue) -> bool:
    match value:
        case str():
            return "\0" in value
        case list():
            return any(_holds_nul(item) for item in value)
        case dict():
            return any("\0" in key or _holds_nul(item) for key, item in value.items())
        case _:
            return False
