"""The JSON Schema of a plan document, for editors: what completes and underlines while a plan is written.

Owns the schema. It is looser than plan_document, which alone judges a plan: references, order and cycles are beyond a
schema. A test keeps its fields equal to those that are read.
"""

from __future__ import annotations

from collections.abc import Sequence

from agentflow.domain.action import ENGINE_ACTIONS
from agentflow.domain.action_document import ACTION_TYPES
from agentflow.domain.action_schema import (
    DURATION,
    EXIT_CODES,
    RELATIVE,
    TEXT,
    VAR_NAME,
    WORD,
    Schema,
    action_schemas,
    mapping,
)
from agentflow.domain.budget import MAX_TOKENS, MAX_USD
from agentflow.domain.duration import PATTERN as DURATION_PATTERN
from agentflow.domain.graph_document import MERGES
from agentflow.domain.limit import KEY_PATTERN
from agentflow.domain.limit_document import MAX_RATE, MAX_SLOTS
from agentflow.domain.plan import DEFAULT_CHILDREN, ID_PATTERN, MAX_STEPS, NAME_PATTERN, WHEN_WORDS
from agentflow.domain.retry_document import MAX_ATTEMPTS
from agentflow.domain.retry_policy import Backoff
from agentflow.domain.step_document import BODY, OUTPUTS, PERFORMED, TAKES_INPUTS

ACTIONS = ("subprocess", "noop", "llm", "http", "switch", "decision", "wait", "approval", "run", "python", "notify")
_BODY = "In the place of an action: the body of a foreach."
SCHEMA_ID = "urn:agentflow:plan:1"
_LIMITS: Schema = {"rate_limit": {"$ref": "#/$defs/rate_limit"}, "concurrency": {"$ref": "#/$defs/concurrency"}}
_KEY: Schema = {"type": "string", "pattern": KEY_PATTERN}


def plan_schema() -> Schema:
    """Return the JSON Schema (2020-12) of the document that read_plan reads."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": SCHEMA_ID,
        "title": "agentflow plan",
        **mapping(_plan_properties(), required=["agentflow", "name", "steps"]),
        "$defs": {
            "duration": {
                "type": "string",
                "pattern": DURATION_PATTERN,
                "description": "A number with its unit: 700ms, 60s, 5m, 1h30m, 2d.",
            },
            "var": _var(),
            "retry": _retry(),
            "budget": _budget(),
            "rate_limit": _rate_limit(),
            "concurrency": _concurrency(),
            "step": _step(),
            **action_schemas(),
            "foreach": _foreach(),
        },
    }


def _plan_properties() -> Schema:
    return {
        "agentflow": {"const": 1, "description": "The version of the plan format."},
        "name": {"type": "string", "pattern": _ecma(NAME_PATTERN)},
        "project": {"type": "string", "pattern": _ecma(NAME_PATTERN), "default": "default"},
        "directive": {
            "type": "string",
            "pattern": _ecma(NAME_PATTERN),
            "description": "The name under which the configuration may hold a budget.",
        },
        "files": {
            "type": "array",
            "items": RELATIVE,
            "description": "Globs beside the plan, captured at submit and laid into the folder of every command.",
        },
        "vars": {
            "type": "object",
            "propertyNames": {"pattern": VAR_NAME},
            "additionalProperties": {"$ref": "#/$defs/var"},
        },
        "secrets": {"type": "array", "items": {"type": "string", "pattern": WORD}, "uniqueItems": True},
        "budget": {"$ref": "#/$defs/budget"},
        "defaults": mapping({"timeout": DURATION, "retry": {"$ref": "#/$defs/retry"}, **_LIMITS}),
        "steps": {"type": "array", "minItems": 1, "maxItems": MAX_STEPS, "items": {"$ref": "#/$defs/step"}},
    }


def _ecma(pattern: str) -> str:
    """Return a pattern of ours as JSON Schema writes it: the end of the text is ``$`` there."""
    return pattern.replace(r"\Z", "$")


def _var() -> Schema:
    spec = mapping(
        {"default": True, "required": {"type": "boolean"}, "one_of": {"type": "array", "minItems": 1}},
        description="required: true or a default; one_of lists the values it may take.",
    )
    return {"if": {"type": "object"}, "then": spec, "description": "The default, or a mapping that describes the var."}


def _retry() -> Schema:
    policy = mapping(
        {
            "max_attempts": {"type": "integer", "minimum": 1, "maximum": MAX_ATTEMPTS, "default": 3},
            "backoff": {"enum": [backoff.value for backoff in Backoff], "default": "exponential"},
            "base": {**DURATION, "default": "700ms"},
            "factor": {"type": "number", "minimum": 1, "maximum": 1000, "default": 2},
            "max_delay": {**DURATION, "default": "1m"},
            "jitter": {"type": "number", "minimum": 0, "maximum": 1, "default": 0.25},
            "on_exit_codes": EXIT_CODES,
            "on_messages": {"type": "array", "items": {"type": "string", "minLength": 1}},
            "on_timeout": {"type": "boolean"},
        },
    )
    return {
        "anyOf": [{"type": "integer", "minimum": 1, "maximum": MAX_ATTEMPTS}, policy],
        "description": "Attempts in all. Without on_exit_codes, on_messages and on_timeout every failure is retried.",
    }


def _budget() -> Schema:
    count = {"type": "integer", "minimum": 1, "maximum": MAX_TOKENS}
    return mapping(
        {
            "steps": {**count, "description": "Attempts, retries too."},
            "tokens": count,
            "usd": {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_USD},
            "active_time": {**DURATION, "description": "Time in which the run does not rest."},
        },
        minProperties=1,
    )


def _rate_limit() -> Schema:
    rate = {"type": "string", "pattern": "^ *0*[1-9][0-9]* */ *[smhd] *$", "description": "60/m: s, m, h or d."}
    shared = mapping(
        {"key": _KEY, "limit": rate, "burst": {"type": "integer", "minimum": 1, "maximum": MAX_RATE, "default": 1}},
        required=["limit"],
    )
    return {"anyOf": [rate, shared], "description": "How often steps start, over all workers; by key if there is one."}


def _concurrency() -> Schema:
    return mapping(
        {"key": _KEY, "limit": {"type": "integer", "minimum": 1, "maximum": MAX_SLOTS}},
        required=["key", "limit"],
        description="How many steps of one key run at once, over all workers.",
    )


def _step() -> Schema:
    step = mapping(
        {
            "id": {"type": "string", "pattern": _ecma(ID_PATTERN)},
            "noop": {"anyOf": [{"type": "null"}, mapping({})]},
            **{action: {"$ref": f"#/$defs/{action}"} for action in ACTIONS if action != "noop"},
            "steps": {"type": "array", "minItems": 1, "items": {"$ref": "#/$defs/step"}, "description": _BODY},
            "foreach": {"$ref": "#/$defs/foreach"},
            "wave": {
                "type": "integer",
                "minimum": 1,
                "description": "Waves run one after the other; the steps of one start together.",
            },
            "needs": {
                "type": "array",
                "items": {"type": "string"},
                "uniqueItems": True,
                "description": "Steps that must end first. Written by none, or by all but the first.",
            },
            "when": {
                "anyOf": [{"enum": list(WHEN_WORDS)}, {"type": "string", "minLength": 1}],
                "default": "succeeded",
            },
            "outputs": {"enum": ["none", "stdout_json", "body_json"], "default": "none"},
            "inputs": {"type": "array", "items": _input(), "description": "Artifacts of earlier steps."},
            "timeout": {**DURATION, "default": "30m"},
            "retry": {"$ref": "#/$defs/retry"},
            **_LIMITS,
            "on_failure": {"enum": ["stop", "continue", "ignore"], "default": "stop"},
            "on_lost": {"enum": ["rerun", "hold"], "default": "rerun"},
        },
        required=["id"],
    )
    return step | {"oneOf": [{"required": [action]} for action in (*ACTIONS, BODY)], "allOf": _what_belongs()}


def _what_belongs() -> list[Schema]:
    """The fields that only some actions have: on any other they are refused, so that none is written in vain."""
    not_performed = [action for action in ACTIONS if ACTION_TYPES.get(action, action) in ENGINE_ACTIONS]
    of_outputs = [
        _only_with([action], {"outputs": {"not": {"const": output}}}) for output, (action, _) in OUTPUTS.items()
    ]
    return [
        {"if": _has_any([*not_performed, BODY]), "then": {"properties": dict.fromkeys(PERFORMED, False)}},
        _only_with(TAKES_INPUTS, {"inputs": {"maxItems": 0}}),
        _only_with(["foreach"], {BODY: False}),
        {"if": _has_any(["switch", "decision"]), "then": {"properties": {"foreach": False}}},
        *of_outputs,
    ]


def _only_with(keys: Sequence[str], otherwise: Schema) -> Schema:
    return {"if": {"not": _has_any(keys)}, "then": {"properties": otherwise}}


def _has_any(keys: Sequence[str]) -> Schema:
    return {"anyOf": [{"required": [key]} for key in keys]}


def _foreach() -> Schema:
    items: Schema = {"anyOf": [{"type": "string", "minLength": 1}, {"type": "array"}]}
    terms = mapping(
        {
            "items": {**items, "description": "An expression that gives a list, or the list."},
            "max_parallel": {"type": "integer", "minimum": 1},
            "max_children": {"type": "integer", "minimum": 1, "maximum": MAX_STEPS, "default": DEFAULT_CHILDREN},
            "merge": {"enum": list(MERGES), "default": MERGES[0]},
        },
        required=["items"],
    )
    return {"anyOf": [*items["anyOf"], terms], "description": "Does the step once for each item."}


def _input() -> Schema:
    described = mapping({"step": TEXT, "artifact": RELATIVE, "as": RELATIVE}, required=["step", "artifact"])
    return {"anyOf": [{"type": "string", "pattern": "^[^/]+/.+$"}, described]}
