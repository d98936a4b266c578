"""The JSON Schema of a plan document, for editors: what completes and underlines while a plan is written.

Owns the schema. It is looser than plan_document, which alone judges a plan: references, order and cycles are beyond a
schema. A test keeps its fields equal to those that are read.
"""

from __future__ import annotations

from typing import Any

from agentflow.domain.duration import PATTERN as DURATION_PATTERN
from agentflow.domain.plan import ID_PATTERN, MAX_STEPS, NAME_PATTERN
from agentflow.domain.retry_document import MAX_ATTEMPTS
from agentflow.domain.retry_policy import Backoff

Schema = dict[str, Any]

SCHEMA_ID = "urn:agentflow:plan:1"
_VAR_NAME = "^[A-Za-z_][A-Za-z0-9_]{0,63}$"
_WORD = "^[A-Za-z_][A-Za-z0-9_]*$"
_ENV_NAME = "^(?!AGENTFLOW_)[A-Za-z_][A-Za-z0-9_]*$"
_DURATION: Schema = {"$ref": "#/$defs/duration"}
_TEXT: Schema = {"type": "string"}
_ARGUMENT: Schema = {"type": ["string", "number"]}
_EXIT_CODES: Schema = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}}
_RELATIVE: Schema = {"type": "string", "minLength": 1, "pattern": r"^(?!/)(?!(.*/)?\.\.(/|$))"}


def plan_schema() -> Schema:
    """Return the JSON Schema (2020-12) of the document that read_plan reads."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "agentflow plan",
        **_mapping(_plan_properties(), required=["agentflow", "name", "steps"]),
        "$defs": {
            "duration": {
                "type": "string",
                "pattern": DURATION_PATTERN,
                "description": "A number with its unit: 700ms, 60s, 5m, 1h30m, 2d.",
            },
            "var": _var(),
            "retry": _retry(),
            "step": _step(),
            "subprocess": _subprocess(),
            "llm": _llm(),
        },
    }


def _plan_properties() -> Schema:
    return {
        "agentflow": {"const": 1, "description": "The version of the plan format."},
        "name": {"type": "string", "pattern": _ecma(NAME_PATTERN)},
        "project": {"type": "string", "pattern": _ecma(NAME_PATTERN), "default": "default"},
        "files": {
            "type": "array",
            "items": _RELATIVE,
            "description": "Globs beside the plan, captured at submit and laid into the folder of every command.",
        },
        "vars": {
            "type": "object",
            "propertyNames": {"pattern": _VAR_NAME},
            "additionalProperties": {"$ref": "#/$defs/var"},
        },
        "secrets": {"type": "array", "items": {"type": "string", "pattern": _WORD}, "uniqueItems": True},
        "defaults": _mapping({"timeout": _DURATION, "retry": {"$ref": "#/$defs/retry"}}),
        "steps": {"type": "array", "minItems": 1, "maxItems": MAX_STEPS, "items": {"$ref": "#/$defs/step"}},
    }


def _mapping(properties: Schema, required: list[str] | None = None, **more: Any) -> Schema:
    schema: Schema = {"type": "object", "properties": properties, "additionalProperties": False, **more}
    return schema | ({"required": required} if required else {})


def _ecma(pattern: str) -> str:
    """Return a pattern of ours as JSON Schema writes it: the end of the text is ``$`` there."""
    return pattern.replace(r"\Z", "$")


def _var() -> Schema:
    spec = _mapping(
        {"default": True, "required": {"type": "boolean"}, "one_of": {"type": "array", "minItems": 1}},
        description="required: true or a default; one_of lists the values it may take.",
    )
    return {"if": {"type": "object"}, "then": spec, "description": "The default, or a mapping that describes the var."}


def _retry() -> Schema:
    policy = _mapping(
        {
            "max_attempts": {"type": "integer", "minimum": 1, "maximum": MAX_ATTEMPTS, "default": 3},
            "backoff": {"enum": [backoff.value for backoff in Backoff], "default": "exponential"},
            "base": {**_DURATION, "default": "700ms"},
            "factor": {"type": "number", "minimum": 1, "maximum": 1000, "default": 2},
            "max_delay": {**_DURATION, "default": "1m"},
            "jitter": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.25},
            "on_exit_codes": _EXIT_CODES,
            "on_messages": {"type": "array", "items": {"type": "string", "minLength": 1}},
            "on_timeout": {"type": "boolean"},
        },
    )
    return {
        "anyOf": [{"type": "integer", "minimum": 1, "maximum": MAX_ATTEMPTS}, policy],
        "description": "Attempts in all. Without on_exit_codes, on_messages and on_timeout every failure is retried.",
    }


def _step() -> Schema:
    step = _mapping(
        {
            "id": {"type": "string", "pattern": _ecma(ID_PATTERN)},
            "subprocess": {"$ref": "#/$defs/subprocess"},
            "noop": {"anyOf": [{"type": "null"}, _mapping({})]},
            "llm": {"$ref": "#/$defs/llm"},
            "needs": {
                "type": "array",
                "items": {"type": "string"},
                "uniqueItems": True,
                "description": "Steps that must end first. Written by none, or by all but the first.",
            },
            "when": {
                "anyOf": [{"enum": ["succeeded", "failed", "always"]}, {"type": "string", "minLength": 1}],
                "default": "succeeded",
            },
            "outputs": {"enum": ["none", "stdout_json"], "default": "none"},
            "inputs": {"type": "array", "items": _input(), "description": "Artifacts of earlier steps."},
            "timeout": {**_DURATION, "default": "30m"},
            "retry": {"$ref": "#/$defs/retry"},
            "on_failure": {"enum": ["stop", "continue"], "default": "stop"},
            "on_lost": {"enum": ["rerun", "hold"], "default": "rerun"},
        },
        required=["id"],
    )
    return step | {"oneOf": [{"required": [action]} for action in ("subprocess", "noop", "llm")]}


def _input() -> Schema:
    described = _mapping({"step": _TEXT, "artifact": _RELATIVE, "as": _RELATIVE}, required=["step", "artifact"])
    return {"anyOf": [{"type": "string", "pattern": "^[^/]+/.+$"}, described]}


def _subprocess() -> Schema:
    words: Schema = {"type": "array", "minItems": 1, "items": _ARGUMENT}
    in_shell: Schema = {"properties": {"command": {"type": "string"}}}
    in_list: Schema = {"properties": {"command": words}}
    schema = _mapping(
        {
            "command": {"anyOf": [words, {"type": "string", "pattern": r"\S"}]},
            "env": {"type": "object", "propertyNames": {"pattern": _ENV_NAME}, "additionalProperties": _ARGUMENT},
            "cwd": {**_RELATIVE, "default": "."},
            "stdin": {**_TEXT, "description": "Kept as content: a stored plan holds its hash only."},
            "ok_exit_codes": {**_EXIT_CODES, "minItems": 1, "default": [0]},
            "shell": {"type": "boolean", "default": False},
        },
        required=["command"],
    )
    is_shell = {"properties": {"shell": {"const": True}}, "required": ["shell"]}
    return schema | {"if": is_shell, "then": in_shell, "else": in_list}


def _llm() -> Schema:
    return _mapping(
        {
            "model": {"type": "string", "pattern": r"^[^:]+:.+|\{\{", "description": "provider:model"},
            "system": {**_TEXT, "description": "Kept as content."},
            "prompt": {"type": "string", "minLength": 1, "description": "Kept as content."},
            "max_tokens": {"type": "integer", "minimum": 1},
            "temperature": {"type": "number", "minimum": 0, "maximum": 2},
            "seed": {"type": "integer"},
            "output_schema": {"type": "object"},
            "keep_content": {"type": "boolean", "default": False},
        },
        required=["model", "prompt"],
    )
