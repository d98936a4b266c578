"""Stored JSON: what plain data must be to be kept, in a file or in a row.

Python says more than JSON (NaN, half a surrogate pair), and JSON more than Postgres takes (NUL). Owns the checks and
what is wrong, which quotes nothing: the data may be content.
"""

from __future__ import annotations

import json
import re
from itertools import accumulate
from typing import Any

MAX_DEPTH = 100
"""How deep lists and objects may nest: what reads them must not run out of stack."""
_NUL = re.compile(r"(?<!\\)(?:\\\\)*\\u0000")
_TEXTS = re.compile(r'"(?:[^"\\]|\\.)*"')
_STEPS = {"[": 1, "{": 1, "]": -1, "}": -1}


class NotStorable(ValueError):
    """The data cannot be kept; the message goes on after "it"."""


def stored_text(data: Any) -> str:
    """Return ``data`` as the JSON text that a row takes. Raises NotStorable."""
    text = json_text(data)
    if _NUL.search(text):
        raise NotStorable("holds a NUL character")
    return text


def json_text(data: Any) -> str:
    """Return ``data`` as JSON text that can be written and read again. Raises NotStorable."""
    try:
        text = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        text.encode()
    except UnicodeEncodeError:
        raise NotStorable("holds half a surrogate pair, which is no character") from None
    except RecursionError:
        raise NotStorable(f"nests more than {MAX_DEPTH} deep") from None
    except TypeError:
        raise NotStorable("holds what is neither an object, a list, a text, a number, true, false nor null") from None
    except ValueError:
        raise NotStorable("holds itself, NaN, or a number that is too large") from None
    if _depth(text) > MAX_DEPTH:
        raise NotStorable(f"nests more than {MAX_DEPTH} deep")
    return text


def _depth(text: str) -> int:
    return max(accumulate(_STEPS.get(character, 0) for character in _TEXTS.sub("", text)), default=0)
