"""The JSON Schema of the actions of a step, and the parts that are the same in all of a plan's.

Owns what each action may hold. The plan around them is plan_schema's.
"""

from __future__ import annotations

from typing import Any

from agentflow.domain.budget import MAX_TOKENS, MAX_USD
from agentflow.domain.gate import CheckMode, GateKind
from agentflow.domain.gate_document import FIELD_TYPES, MAX_APPROVERS, MAX_REDOS, ON_EXPIRY
from agentflow.domain.http_document import CREDENTIAL_ID, HEADER_NAME, METHODS, WITHOUT_BODY
from agentflow.domain.notify_document import MAX_RECIPIENTS
from agentflow.domain.python_document import CALL_PATTERN

Schema = dict[str, Any]

VAR_NAME = "^[A-Za-z_][A-Za-z0-9_]{0,63}$"
WORD = "^[A-Za-z_][A-Za-z0-9_]*$"
DURATION: Schema = {"$ref": "#/$defs/duration"}
TEXT: Schema = {"type": "string"}
EXIT_CODES: Schema = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}}
RELATIVE: Schema = {"type": "string", "minLength": 1, "pattern": r"^(?!/)(?!(.*/)?\.\.(/|$))"}
_ENV_NAME = "^(?!AGENTFLOW_)[A-Za-z_][A-Za-z0-9_]*$"
_ARGUMENT: Schema = {"type": ["string", "number"]}
_USD: Schema = {"type": "number", "minimum": 0, "maximum": MAX_USD}


def action_schemas() -> Schema:
    """Return the JSON Schema of each action by its name; ``noop`` has none of its own."""
    return {
        "subprocess": _subprocess(),
        "llm": _llm(),
        "http": _http(),
        "switch": _switch(),
        "decision": {"$ref": "#/$defs/switch", "description": "The same as switch."},
        "wait": _wait(),
        "approval": _approval(),
        "run": _run(),
        "python": _python(),
        "notify": _notify(),
    }


def mapping(properties: Schema, required: list[str] | None = None, **more: Any) -> Schema:
    """Return the schema of a mapping that has no other fields than these."""
    schema: Schema = {"type": "object", "properties": properties, "additionalProperties": False, **more}
    return schema | ({"required": required} if required else {})


def _subprocess() -> Schema:
    words: Schema = {"type": "array", "minItems": 1, "items": _ARGUMENT}
    in_shell: Schema = {"properties": {"command": {"type": "string"}}}
    in_list: Schema = {"properties": {"command": words}}
    schema = mapping(
        {
            "command": {"anyOf": [words, {"type": "string", "pattern": r"\S"}]},
            "env": {"type": "object", "propertyNames": {"pattern": _ENV_NAME}, "additionalProperties": _ARGUMENT},
            "cwd": {**RELATIVE, "default": "."},
            "stdin": {**TEXT, "description": "Kept as content: a stored plan holds its hash only."},
            "ok_exit_codes": {**EXIT_CODES, "minItems": 1, "default": [0]},
            "shell": {"type": "boolean", "default": False},
        },
        required=["command"],
    )
    is_shell = {"properties": {"shell": {"const": True}}, "required": ["shell"]}
    return schema | {"if": is_shell, "then": in_shell, "else": in_list}


def _llm() -> Schema:
    return mapping(
        {
            "model": {"type": "string", "pattern": r"^[^:]+:.+|\{\{", "description": "provider:model"},
            "system": {**TEXT, "description": "Kept as content."},
            "prompt": {"type": "string", "minLength": 1, "description": "Kept as content."},
            "max_tokens": {"type": "integer", "minimum": 1, "maximum": MAX_TOKENS},
            "temperature": {"type": "number", "minimum": 0, "maximum": 2},
            "seed": {"type": "integer"},
            "output_schema": {"type": "object"},
            "keep_content": {"type": "boolean", "default": False},
            "price": mapping(
                {"input": _USD, "output": _USD},
                required=["input", "output"],
                description="USD per million tokens; it wins over price lists.",
            ),
        },
        required=["model", "prompt"],
    )


def _http() -> Schema:
    schema = mapping(
        {
            "method": {"enum": list(METHODS), "default": "GET"},
            "url": {"type": "string", "pattern": r"^https?://[^/]|\{\{"},
            "json": {"description": "The body, whose texts may be templates. Kept as content."},
            "headers": {
                "type": "object",
                "propertyNames": {"pattern": f"^{HEADER_NAME}$"},
                "additionalProperties": _ARGUMENT,
            },
            "credential": {
                "type": "string",
                "pattern": f"^{CREDENTIAL_ID}$",
                "description": "The id of a provider credential, sent as a bearer token to its own address only.",
            },
            "ok_status": {
                "type": "array",
                "minItems": 1,
                "items": {"type": "integer", "minimum": 100, "maximum": 599},
                "description": "Every status from 200 to 299 unless it is written.",
            },
        },
        required=["url"],
    )
    with_body = [method for method in METHODS if method not in WITHOUT_BODY]
    return schema | {
        "if": {"required": ["json"]},
        "then": {"properties": {"method": {"enum": with_body}}, "required": ["method"]},
    }


def _switch() -> Schema:
    one_or_more: Schema = {"anyOf": [TEXT, {"type": "array", "items": TEXT}]}
    return mapping(
        {
            "on": {**TEXT, "description": "An expression whose value names one of the cases."},
            "cases": {"type": "object", "minProperties": 1, "additionalProperties": one_or_more},
            "default": {**TEXT, "description": "The case for a value that names none."},
            "fail": {"type": "array", "items": TEXT, "description": "Labels that fail the step."},
        },
        required=["on", "cases"],
    )


def _wait() -> Schema:
    return mapping(
        {"for": DURATION, "until": TEXT, "event": TEXT, "timeout": DURATION},
        oneOf=[{"required": ["for"]}, {"required": ["until"]}, {"required": ["event"]}],
    )


def _approval() -> Schema:
    values: Schema = {"type": "array", "minItems": 1}
    field = mapping(
        {"type": {"enum": list(FIELD_TYPES)}, "required": {"type": "boolean"}, "default": True, "one_of": values}
    )
    globs: Schema = {"anyOf": [TEXT, {"type": "array", "minItems": 1, "items": TEXT}]}
    redo = mapping({"redo": TEXT, "max_rounds": {"type": "integer", "minimum": 1, "maximum": MAX_REDOS}}, ["redo"])
    people: Schema = {"type": "array", "minItems": 1, "items": TEXT, "uniqueItems": True}
    return mapping(
        {
            "message": {**TEXT, "description": "What the deciders are asked; it may refer to vars only."},
            "kind": {"enum": [kind.value for kind in GateKind], "default": GateKind.APPROVAL.value},
            "approvers": {**people, "description": "Names and @groups; anyone where it is left out."},
            "count": {"type": "integer", "minimum": 1, "maximum": MAX_APPROVERS, "default": 1},
            "allow_self": {"type": "boolean", "default": False},
            "form": {"type": "object", "propertyNames": {"pattern": VAR_NAME}, "additionalProperties": field},
            "expires": DURATION,
            "on_expiry": {"enum": list(ON_EXPIRY), "default": ON_EXPIRY[0]},
            "escalate_to": people,
            "artifacts": {"type": "object", "additionalProperties": globs},
            "checks": {"type": "object", "additionalProperties": {"enum": [mode.value for mode in CheckMode]}},
            "automatic": {"type": "boolean", "default": False},
            "on_reject": {"anyOf": [{"const": "fail"}, redo], "default": "fail"},
        }
    )


def _run() -> Schema:
    return mapping(
        {
            "plan": {**TEXT, "minLength": 1, "description": "NAME or NAME@VERSION of a stored plan, or ./FILE.yaml."},
            "vars": {"type": "object", "description": "Values of its vars; texts may be templates."},
            "budget": {"$ref": "#/$defs/budget"},
        },
        required=["plan"],
    )


def _python() -> Schema:
    return mapping(
        {
            "call": {**TEXT, "pattern": f"^{CALL_PATTERN}$", "description": "package.module:function"},
            "args": {
                "type": "object",
                "propertyNames": {"pattern": WORD},
                "description": "Arguments by name, whose texts may be templates. Kept as content.",
            },
            "json_args": {
                "type": "array",
                "items": TEXT,
                "description": "Arguments whose text is JSON: the function is given what it says.",
            },
        },
        required=["call"],
    )


def _notify() -> Schema:
    return mapping(
        {
            "webhook": {**TEXT, "pattern": r"^https?://[^/]|\{\{"},
            "email": {"anyOf": [TEXT, {"type": "array", "items": TEXT, "minItems": 1, "maxItems": MAX_RECIPIENTS}]},
            "command": {"type": "array", "minItems": 1, "items": _ARGUMENT},
        },
        minProperties=1,
        maxProperties=1,
        description="Counts of the run, as JSON or as a mail.",
    )
