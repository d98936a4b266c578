"""A signal: a name, with data, that a person or a program sends to a run for a step that waits for it.

Owns which names there are and what data may be: it becomes the result of a step, and so must fit into its row.
"""

from __future__ import annotations

import json
import re
from typing import Any

from pydantic import JsonValue

from agentflow.domain.error import UsageError
from agentflow.domain.plan import NAME_PATTERN, NAME_WORDS
from agentflow.domain.stored_json import NotStorable, stored_text
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
        raise UsageError(f"{shorten(name)!r} is no name of a signal: {NAME_WORDS}.")
    return name


def checked_data(data: Any) -> JsonValue:
    """Return what a signal brings along, as plain data. UsageError, which does not quote it, for what cannot be kept.

    It is JSON of at most 64 KiB (see domain/stored_json.py); keys become texts.
    """
    try:
        text = stored_text(data)
    except NotStorable as problem:
        raise UsageError(f"The data of a signal must be JSON that can be stored: it {problem}.") from None
    if (size := len(text.encode())) > MAX_DATA_BYTES:
        raise UsageError(f"The data of a signal has at most {MAX_DATA_BYTES:,} bytes of JSON, not {size:,}.")
    plain: JsonValue = json.loads(text)
    return plain
