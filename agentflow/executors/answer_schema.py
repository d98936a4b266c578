"""Whether a model's answer keeps to its output_schema (JSON Schema 2020-12, checked when the plan was submitted).

Owns that judgement only. It says yes or no: what a validator says of an answer quotes it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Never

_FENCE = "```"


def keeps_to_schema(answer: str, schema: Mapping[str, Any]) -> bool:
    """Whether ``answer`` is JSON that ``schema`` allows. Nothing outside of the schema is loaded."""
    from jsonschema import Draft202012Validator
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    validator = Draft202012Validator(schema, registry=Registry())
    try:
        return bool(validator.is_valid(json.loads(answer, parse_constant=_refuse)))
    except (ValueError, RecursionError, Unresolvable):
        return False


def without_fence(answer: str) -> str:
    """Return what stands in a Markdown fence, where a model that was only asked for JSON put one around all of it."""
    lines = answer.strip().splitlines()
    is_fenced = len(lines) > 2 and lines[0].startswith(_FENCE) and lines[-1].strip() == _FENCE
    return "\n".join(lines[1:-1]) if is_fenced else answer


def _refuse(name: str) -> Never:
    raise ValueError(f"{name} is no JSON")
