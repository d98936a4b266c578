"""The written form of a retry policy: ``retry: 3`` or a mapping.

Owns reading it and the rule that a policy which names no failure retries every failure.
"""

from __future__ import annotations

from collections.abc import Mapping

from agentflow.domain.document import Form, Value
from agentflow.domain.retry_policy import DEFAULT_RETRY, Backoff, RetryPolicy

MAX_ATTEMPTS = 10_000
_CAUSES = ("on_exit_codes", "on_messages", "on_timeout")
_FORM = Form(known=("max_attempts", "backoff", "base", "factor", "max_delay", "jitter", *_CAUSES))


def read_retry(value: Value) -> RetryPolicy | None:
    """Return the policy that is written, or None after faults."""
    if isinstance(value.value, int | float) and not isinstance(value.value, bool):
        attempts = _attempts(value)
        return (
            None if attempts is None else RetryPolicy(max_attempts=attempts, on_timeout=True, retries_everything=True)
        )
    if not isinstance(value.value, Mapping):
        value.wrong_type("a number of attempts or a mapping such as {max_attempts: 4, base: 1s}")
        return None
    before = len(value.faults)
    fields = value.fields(_FORM) or {}
    policy: dict[str, object] = {
        "max_attempts": _attempts(fields["max_attempts"]) if "max_attempts" in fields else DEFAULT_RETRY.max_attempts
    }
    policy |= _read_delays(fields) | _read_causes(value, fields)
    return RetryPolicy.model_validate(policy) if len(value.faults) == before else None


def _attempts(value: Value) -> int | None:
    return value.integer(1, MAX_ATTEMPTS, code="bad_retry")


def _read_delays(fields: dict[str, Value]) -> dict[str, object]:
    read: dict[str, object] = {}
    for key, entry in fields.items():
        match key:
            case "backoff":
                read["backoff"] = entry.choice([backoff.value for backoff in Backoff])
            case "base":
                read["base_seconds"] = entry.seconds(is_zero_allowed=True)
            case "max_delay":
                read["max_delay_seconds"] = entry.seconds(is_zero_allowed=True)
            case "factor":
                read["factor"] = entry.number(1, 1000, code="bad_retry")
            case "jitter":
                read["jitter"] = entry.number(0, 1, code="bad_retry")
            case _:
                pass
    return read


def _read_causes(value: Value, fields: dict[str, Value]) -> dict[str, object]:
    if not any(cause in fields for cause in _CAUSES):
        return {"on_timeout": True, "retries_everything": True}
    before = len(value.faults)
    codes = [code for item in _items(fields, "on_exit_codes") if (code := item.integer(0, 255)) is not None]
    messages = fields["on_messages"].texts() if "on_messages" in fields else []
    on_timeout = fields["on_timeout"].boolean() if "on_timeout" in fields else False
    if not (codes or messages or on_timeout) and len(value.faults) == before:
        value.fault(
            "bad_retry",
            "this retry names no failure to retry: list exit codes or messages, set on_timeout: "
            "true, or leave every on_* out to retry every failure",
        )
    return {"on_exit_codes": tuple(sorted(set(codes))), "on_messages": tuple(messages), "on_timeout": on_timeout}


def _items(fields: dict[str, Value], key: str) -> list[Value]:
    return (fields[key].items() or []) if key in fields else []
