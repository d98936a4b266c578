"""The JSON Schema of a plan document, for editors: what completes and underlines while a plan is written.

Owns the schema. It is looser than plan_document, which alone judges a plan: references, order and cycles are beyond a
schema. A test keeps its fields equal to those that are read.
"""

from __future__ import annotations

from typing import Any

from agentflow.domain.budget import MAX_TOKENS, MAX_USD
from agentflow.domain.duration import PATTERN as DURATION_PATTERN
from agentflow.domain.gate import CheckMode, GateKind
from agentflow.domain.gate_document import FIELD_TYPES, MAX_APPROVERS, MAX_REDOS, ON_EXPIRY
from agentflow.domain.graph_document import MERGES
from agentflow.domain.http_document import CREDENTIAL_ID, HEADER_NAME, METHODS, WITHOUT_BODY
from agentflow.domain.limit import KEY_PATTERN
from agentflow.domain.limit_document import MAX_RATE, MAX_SLOTS
from agentflow.domain.notify_document import MAX_RECIPIENTS
from agentflow.domain.plan import DEFAULT_CHILDREN, ID_PATTERN, MAX_STEPS, NAME_PATTERN, WHEN_WORDS
from agentflow.domain.python_document import CALL_PATTERN
from agentflow.domain.retry_document import MAX_ATTEMPTS
from agentflow.domain.retry_policy import Backoff

Schema = dict[str, Any]

ACTIONS = ("subprocess", "noop", "llm", "http", "switch", "decision", "wait", "approval", "run", "python", "notify")
_BODY = "In the place of an action: the body of a foreach."
SCHEMA_ID = "urn:agentflow:plan:1"
_VAR_NAME = "^[A-Za-z_][A-Za-z0-9_]{0,63}$"
_WORD = "^[A-Za-z_][A-Za-z0-9_]*$"
_ENV_NAME = "^(?!AGENTFLOW_)[A-Za-z_][A-Za-z0-9_]*$"
_DURATION: Schema = {"$ref": "#/$defs/duration"}
_TEXT: Schema = {"type": "string"}
_ARGUMENT: Schema = {"type": ["string", "number"]}
_EXIT_CODES: Schema = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 255}}
_LIMITS: Schema = {"rate_limit": {"$ref": "#/$defs/rate_limit"}, "concurrency": {"$ref": "#/$defs/concurrency"}}
_KEY: Schema = {"type": "string", "pattern": KEY_PATTERN}
_USD: Schema = {"type": "number", "minimum": 0, "maximum": MAX_USD}
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
            "budget": _budget(),
            "rate_limit": _rate_limit(),
            "concurrency": _concurrency(),
            "step": _step(),
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
            "items": _RELATIVE,
            "description": "Globs beside the plan, captured at submit and laid into the folder of every command.",
        },
        "vars": {
            "type": "object",
            "propertyNames": {"pattern": _VAR_NAME},
            "additionalProperties": {"$ref": "#/$defs/var"},
        },
        "secrets": {"type": "array", "items": {"type": "string", "pattern": _WORD}, "uniqueItems": True},
        "budget": {"$ref": "#/$defs/budget"},
        "defaults": _mapping({"timeout": _DURATION, "retry": {"$ref": "#/$defs/retry"}, **_LIMITS}),
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


def _budget() -> Schema:
    count = {"type": "integer", "minimum": 1, "maximum": MAX_TOKENS}
    return _mapping(
        {
            "steps": {**count, "description": "Attempts, retries too."},
            "tokens": count,
            "usd": {"type": "number", "exclusiveMinimum": 0, "maximum": MAX_USD},
            "active_time": {**_DURATION, "description": "Time in which the run does not rest."},
        },
        minProperties=1,
    )


def _rate_limit() -> Schema:
    rate = {"type": "string", "pattern": "^ *0*[1-9][0-9]* */ *[smhd] *$", "description": "60/m: s, m, h or d."}
    shared = _mapping(
        {"key": _KEY, "limit": rate, "burst": {"type": "integer", "minimum": 1, "maximum": MAX_RATE, "default": 1}},
        required=["limit"],
    )
    return {"anyOf": [rate, shared], "description": "How often steps start, over all workers; by key if there is one."}


def _concurrency() -> Schema:
    return _mapping(
        {"key": _KEY, "limit": {"type": "integer", "minimum": 1, "maximum": MAX_SLOTS}},
        required=["key", "limit"],
        description="How many steps of one key run at once, over all workers.",
    )


def _step() -> Schema:
    step = _mapping(
        {
            "id": {"type": "string", "pattern": _ecma(ID_PATTERN)},
            "noop": {"anyOf": [{"type": "null"}, _mapping({})]},
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
            "timeout": {**_DURATION, "default": "30m"},
            "retry": {"$ref": "#/$defs/retry"},
            **_LIMITS,
            "on_failure": {"enum": ["stop", "continue", "ignore"], "default": "stop"},
            "on_lost": {"enum": ["rerun", "hold"], "default": "rerun"},
        },
        required=["id"],
    )
    return step | {"oneOf": [{"required": [action]} for action in (*ACTIONS, "steps")]}


def _switch() -> Schema:
    one_or_more: Schema = {"anyOf": [_TEXT, {"type": "array", "items": _TEXT}]}
    return _mapping(
        {
            "on": {**_TEXT, "description": "An expression whose value names one of the cases."},
            "cases": {"type": "object", "minProperties": 1, "additionalProperties": one_or_more},
            "default": {**_TEXT, "description": "The case for a value that names none."},
            "fail": {"type": "array", "items": _TEXT, "description": "Labels that fail the step."},
        },
        required=["on", "cases"],
    )


def _wait() -> Schema:
    return _mapping(
        {"for": _DURATION, "until": _TEXT, "event": _TEXT, "timeout": _DURATION},
        oneOf=[{"required": ["for"]}, {"required": ["until"]}, {"required": ["event"]}],
    )


def _run() -> Schema:
    return _mapping(
        {
            "plan": {**_TEXT, "minLength": 1, "description": "NAME or NAME@VERSION of a stored plan, or ./FILE.yaml."},
            "vars": {"type": "object", "description": "Values of its vars; texts may be templates."},
            "budget": {"$ref": "#/$defs/budget"},
        },
        required=["plan"],
    )


def _python() -> Schema:
    return _mapping(
        {
            "call": {**_TEXT, "pattern": f"^{CALL_PATTERN}$", "description": "package.module:function"},
            "args": {
                "type": "object",
                "propertyNames": {"pattern": _WORD},
                "description": "Arguments by name, whose texts may be templates. Kept as content.",
            },
        },
        required=["call"],
    )


def _notify() -> Schema:
    return _mapping(
        {
            "webhook": {**_TEXT, "pattern": r"^https?://[^/]|\{\{"},
            "email": {"anyOf": [_TEXT, {"type": "array", "items": _TEXT, "minItems": 1, "maxItems": MAX_RECIPIENTS}]},
            "command": {"type": "array", "minItems": 1, "items": _ARGUMENT},
        },
        minProperties=1,
        maxProperties=1,
        description="Counts of the run, as JSON or as a mail.",
    )


def _approval() -> Schema:
    values: Schema = {"type": "array", "minItems": 1}
    field = _mapping(
        {"type": {"enum": list(FIELD_TYPES)}, "required": {"type": "boolean"}, "default": True, "one_of": values}
    )
    globs: Schema = {"anyOf": [_TEXT, {"type": "array", "minItems": 1, "items": _TEXT}]}
    redo = _mapping({"redo": _TEXT, "max_rounds": {"type": "integer", "minimum": 1, "maximum": MAX_REDOS}}, ["redo"])
    people: Schema = {"type": "array", "minItems": 1, "items": _TEXT, "uniqueItems": True}
    return _mapping(
        {
            "message": {**_TEXT, "description": "What the deciders are asked; it may refer to vars only."},
            "kind": {"enum": [kind.value for kind in GateKind], "default": GateKind.APPROVAL.value},
            "approvers": {**people, "description": "Names and @groups; anyone where it is left out."},
            "count": {"type": "integer", "minimum": 1, "maximum": MAX_APPROVERS, "default": 1},
            "allow_self": {"type": "boolean", "default": False},
            "form": {"type": "object", "propertyNames": {"pattern": _VAR_NAME}, "additionalProperties": field},
            "expires": _DURATION,
            "on_expiry": {"enum": list(ON_EXPIRY), "default": ON_EXPIRY[0]},
            "escalate_to": people,
            "artifacts": {"type": "object", "additionalProperties": globs},
            "checks": {"type": "object", "additionalProperties": {"enum": [mode.value for mode in CheckMode]}},
            "automatic": {"type": "boolean", "default": False},
            "on_reject": {"anyOf": [{"const": "fail"}, redo], "default": "fail"},
        }
    )


def _foreach() -> Schema:
    items: Schema = {"anyOf": [{"type": "string", "minLength": 1}, {"type": "array"}]}
    terms = _mapping(
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
            "max_tokens": {"type": "integer", "minimum": 1, "maximum": MAX_TOKENS},
            "temperature": {"type": "number", "minimum": 0, "maximum": 2},
            "seed": {"type": "integer"},
            "output_schema": {"type": "object"},
            "keep_content": {"type": "boolean", "default": False},
            "price": _mapping(
                {"input": _USD, "output": _USD},
                required=["input", "output"],
                description="USD per million tokens; it wins over price lists.",
            ),
        },
        required=["model", "prompt"],
    )


def _http() -> Schema:
    schema = _mapping(
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
