"""The written form of limits: ``rate_limit: 60/m`` or a mapping, and ``concurrency: {key: db, limit: 4}``.

Owns reading them. Handing out what they allow is storage's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from agentflow.domain.document import Form, Value
from agentflow.domain.limit import KEY_PATTERN, ConcurrencyLimit, RateLimit
from agentflow.domain.wording import nearest, shorten

UNIT_SECONDS: Mapping[str, int] = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
MAX_RATE = 1_000_000
MAX_SLOTS = 10_000
RATE_FORM = Form(known=("key", "limit", "burst"), required=("limit",))
CONCURRENCY_FORM = Form(known=("key", "limit"), required=("key", "limit"))
_RATE = re.compile(r"(\d+(?:\.\d+)?)(?:\s*/\s*([A-Za-z]*))?", re.ASCII)
_WORDS = {"second": "s", "sec": "s", "minute": "m", "min": "m", "hour": "h", "hr": "h", "day": "d"}
_FORM_OF_A_RATE = "write a whole number for each s, m, h or d, such as 60/m"


def read_rate_limit(value: Value) -> RateLimit | None:
    """Return the rate that is written, or None after faults."""
    if not isinstance(value.value, Mapping):
        rate = _read_rate(value)
        return None if rate is None else RateLimit(limit=rate[0], per_seconds=rate[1])
    before = len(value.faults)
    fields = value.fields(RATE_FORM) or {}
    key = _read_key(fields["key"]) if "key" in fields else None
    rate = _read_rate(fields["limit"]) if "limit" in fields else None
    burst = fields["burst"].integer(1, MAX_RATE, code="bad_limit") if "burst" in fields else 1
    if rate is None or burst is None or len(value.faults) > before:
        return None
    return RateLimit(key=key, limit=rate[0], per_seconds=rate[1], burst=burst)


def _read_rate(value: Value) -> tuple[int, int] | None:
    """Return the limit and the seconds that it is for."""
    if isinstance(value.value, bool) or not isinstance(value.value, str | int | float):
        value.wrong_type("a rate such as 60/m")
        return None
    text = str(value.value) if isinstance(value.value, int | float) else value.value.strip()
    match = _RATE.fullmatch(text)
    if match is None:
        value.fault("bad_limit", f"{value.name} cannot be {shorten(text)!r}: {_FORM_OF_A_RATE}")
        return None
    number, unit = match.groups()
    problem = _rate_problem(number, unit)
    if problem is not None:
        value.fault("bad_limit", f"{value.name}: {problem}")
        return None
    return int(number), UNIT_SECONDS[unit]


def _rate_problem(number: str, unit: str | None) -> str | None:
    if not unit:
        return f"{shorten(number)} has no unit: write {shorten(number)}/s, {shorten(number)}/m or {shorten(number)}/h"
    if unit not in UNIT_SECONDS:
        meant = _WORDS.get(nearest(unit, _WORDS) or "")
        hint = f"did you mean {shorten(number)}/{meant}?" if meant else _FORM_OF_A_RATE
        return f"there is no unit {shorten(unit)!r}: {hint}"
    if "." in number:
        return f"{shorten(number)}/{unit} is no whole number: take a longer unit, as 90/m for 1.5/s"
    if len(number) > len(str(MAX_RATE)) or not 1 <= int(number) <= MAX_RATE:
        return f"the number must be from 1 to {MAX_RATE}, not {shorten(number)}"
    return None


def read_concurrency(value: Value) -> ConcurrencyLimit | None:
    """Return the limit that is written, or None after faults."""
    if not isinstance(value.value, Mapping):
        value.wrong_type("a mapping such as {key: db, limit: 4}")
        return None
    fields = value.fields(CONCURRENCY_FORM) or {}
    key = _read_key(fields["key"]) if "key" in fields else None
    limit = fields["limit"].integer(1, MAX_SLOTS, code="bad_limit") if "limit" in fields else None
    return None if key is None or limit is None else ConcurrencyLimit(key=key, limit=limit)


def _read_key(value: Value) -> str | None:
    text = value.text()
    if text is not None and not re.fullmatch(KEY_PATTERN, text):
        value.fault(
            "bad_id",
            f"key cannot be {shorten(text)!r}: start with a letter, a digit or _, then also . : / and -, "
            "at most 200 characters; it is no template",
        )
        return None
    return text
