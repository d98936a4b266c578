"""The written form of a ``python`` step: ``{call: "pkg.mod:func", args: {...}, json_args: [...]}``.

Owns what a call may be named. The arguments are content, as the body of an http step is: the stored plan has their hash
only. Whether a worker makes the call is its own setting's to say, which no producer needs to know.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from agentflow.domain.action import ContentRef, PythonAction
from agentflow.domain.action_reading import ON_THE_STEP, ActionReading, Place
from agentflow.domain.document import Form, Value
from agentflow.domain.http_document import canonical, note_templates
from agentflow.domain.wording import shorten

PYTHON_FORM = Form(known=("call", "args", "json_args"), required=("call",), elsewhere=ON_THE_STEP)
CALL_PATTERN = r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*"
ALLOWED_PATTERN = CALL_PATTERN.rpartition(":")[0] + r":([A-Za-z_][A-Za-z0-9_]*|\*)"
"""What a worker's setting may allow: a call, or all of a module's own functions."""
_MAX_CALL = 200


def read_python(value: Value, reading: ActionReading) -> None:
    """Read ``python: {call, args, json_args}``."""
    fields = value.fields(PYTHON_FORM)
    if fields is None:
        return
    before = len(value.faults)
    call = _read_call(fields["call"]) if "call" in fields else None
    args = _read_args(fields["args"], reading) if "args" in fields else None
    json_args = _read_json_args(fields["json_args"], fields.get("args")) if "json_args" in fields else None
    if call is not None and len(value.faults) == before:
        reading.action = PythonAction(call=call, args=args, json_args=json_args)


def is_call(text: str) -> bool:
    """Whether ``text`` names a function."""
    return len(text) <= _MAX_CALL and re.fullmatch(CALL_PATTERN, text, re.ASCII) is not None


def _read_call(value: Value) -> str | None:
    text = value.text()
    if text is not None and not is_call(text):
        value.fault("bad_value", f"call names a function as package.module:function, not {shorten(text)!r}")
        return None
    return text


def _read_args(value: Value, reading: ActionReading) -> ContentRef | None:
    entries = value.entries()
    if entries is None:
        return None
    for name, entry in entries.items():
        if not (name.isidentifier() and name.isascii()):
            entry.fault("bad_value", f"args are arguments by name, and {shorten(name)!r} can be no name of one")
    before = len(value.faults)
    document = value.json()
    if len(value.faults) > before:
        return None
    note_templates(value, reading, Place.ARGS)
    return reading.keep_content(canonical(document))


def _read_json_args(value: Value, args: Value | None) -> tuple[str, ...] | None:
    """The names of arguments that are texts, in one order whatever the order in which they are written."""
    names = value.texts()
    texts = args.value if args is not None and isinstance(args.value, Mapping) else {}
    for name in names:
        if not isinstance(texts.get(name), str):
            value.fault("bad_value", f"json_args names arguments whose text is JSON, and {shorten(name)!r} is no text")
    return tuple(sorted(set(names))) or None
