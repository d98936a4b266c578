"""JSON of a body: read strictly, with where and why it cannot be.

Owns what is refused beyond what Python's reader refuses: keys that stand twice, numbers and texts that no other program
reads, and what nests so deep that whatever walks over it runs out of stack.
"""

from __future__ import annotations

import json
from collections import Counter
from json import JSONDecodeError
from math import isfinite
from typing import Any, Never

from agentflow.domain.misfit import FieldFault, Misfit
from agentflow.domain.wording import shorten

MAX_DEPTH = 128
FIELD = "body"


def read_json(body: bytes) -> Any:
    """Return what a body says. Raises Misfit."""
    try:
        return _read(body)
    except UnicodeDecodeError as error:
        raise _misfit("not_utf8", f"is no UTF-8: byte {error.start} is none of a character") from None
    except JSONDecodeError as error:
        why = error.msg[:1].lower() + error.msg[1:]
        said = f"is no JSON: line {error.lineno}, column {error.colno}: {why}"
        raise _misfit("json_invalid", said, error.lineno, error.colno) from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError:  # of Python's own bound for the digits of a whole number
        raise _misfit("number_too_long", "holds a whole number of too many digits") from None


def _read(body: bytes) -> Any:
    text = body.decode()
    found = json.loads(text, object_pairs_hook=_object, parse_float=_number, parse_constant=_no_number)
    if "\\ud" in text or "\\uD" in text:
        _check_characters(found)
    _check_depth(found)
    return found


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise _misfit("duplicate_key", f"the key {shorten(twice)!r} stands twice in one object")
    return found


def _number(text: str) -> float:
    number = float(text)
    return number if isfinite(number) else _no_number(text)


def _no_number(_: str) -> Never:
    raise _misfit("not_finite", "holds NaN, Infinity or a number that is too large")


def _check_characters(found: Any) -> None:
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise _misfit("half_a_pair", "holds half a surrogate pair, which is no character") from None


def _check_depth(found: Any) -> None:
    depth, level = 0, [found]
    while level := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        if depth > MAX_DEPTH:
            raise _too_deep()
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]


def _too_deep() -> Misfit:
    return _misfit("too_deep", f"nests deeper than {MAX_DEPTH} levels")


def _misfit(code: str, message: str, line: int | None = None, column: int | None = None) -> Misfit:
    return Misfit([FieldFault(FIELD, code, message, line, column)])
