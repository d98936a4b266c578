"""The written form of a model call: ``llm: {model: "provider:name", prompt: ..., ...}``.

Owns reading it, its prices among the rest. Prompt and system text leave the plan as content. Whether output_schema is a
JSON Schema is engine/check_schemas.py's, for that takes a library.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from pydantic import JsonValue

from agentflow.domain.action import ContentRef, LlmAction, Price
from agentflow.domain.action_reading import ON_THE_STEP, ActionReading, Place
from agentflow.domain.budget import MAX_TOKENS, MAX_USD, nano_of
from agentflow.domain.document import Form, Value
from agentflow.domain.template import has_expressions
from agentflow.domain.wording import shorten

LLM_FORM = Form(
    known=(
        "model",
        "system",
        "prompt",
        "max_tokens",
        "temperature",
        "seed",
        "output_schema",
        "keep_content",
        "price",
    ),
    required=("model", "prompt"),
    elsewhere=ON_THE_STEP,
)
PRICE_FORM = Form(known=("input", "output"), required=("input", "output"))
MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*:\S+", re.ASCII)
_EXAMPLE = "{input: 0.15, output: 0.60}, in USD per million tokens"


def read_llm(value: Value, reading: ActionReading) -> None:
    """Read ``llm: {...}``."""
    fields = value.fields(LLM_FORM)
    if fields is None:
        return
    before = len(value.faults)
    texts: dict[str, ContentRef | None] = {}
    for key, place in (("system", Place.SYSTEM), ("prompt", Place.PROMPT)):
        if key in fields:
            texts[key] = reading.take_content(place, fields[key], fields[key].text(is_empty_allowed=key == "system"))
    read = {key: reader(fields[key]) for key, reader in _VALUES.items() if key in fields}
    if "output_schema" in fields:
        read["output_schema"] = _read_schema(fields["output_schema"], reading)
    model = _read_model(fields["model"], reading) if "model" in fields else None
    if model and texts.get("prompt") and len(value.faults) == before:
        reading.action = LlmAction.model_validate({"model": model, **texts, **read})


def _read_schema(value: Value, reading: ActionReading) -> JsonValue:
    schema = value.json() if value.entries() is not None else None
    if schema is not None:
        reading.schemas.append((schema, value))
    return schema


def _read_price(value: Value) -> Price | None:
    if not isinstance(value.value, Mapping):
        value.wrong_type(f"a mapping such as {_EXAMPLE}")
        return None
    fields = value.fields(PRICE_FORM) or {}
    read = {key: entry.number(0, MAX_USD) for key, entry in fields.items()}
    if len(read) < len(PRICE_FORM.known) or None in read.values():
        return None
    return Price(input_nano=nano_of(read["input"] or 0), output_nano=nano_of(read["output"] or 0))


_VALUES: Mapping[str, Callable[[Value], object]] = {
    "max_tokens": lambda value: value.integer(1, MAX_TOKENS),
    "temperature": lambda value: value.number(0, 2),
    "seed": lambda value: value.integer(),
    "keep_content": lambda value: value.boolean(),
    "price": _read_price,
}


def _read_model(value: Value, reading: ActionReading) -> str | None:
    text = reading.template(Place.MODEL, value, value.text())
    if text is not None and not has_expressions(text) and not MODEL.fullmatch(text):
        value.fault("bad_value", f"model must name its provider, as in openai:gpt-4o-mini, not {shorten(text)!r}")
    return text
