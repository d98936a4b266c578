"""The written form of the actions: ``subprocess``, ``noop`` and ``llm``.

Owns reading them, taking content (stdin, prompt, system text) out, and the list of the texts that are templates. Which
references those may hold is reference_check's.
"""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePosixPath

from agentflow.domain.action import Action, ContentRef, LlmAction, NoopAction, SubprocessAction
from agentflow.domain.document import Form, Value
from agentflow.domain.template import has_expressions
from agentflow.domain.wording import shorten

ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
STEP_FIELDS = ("id", "needs", "when", "outputs", "inputs", "timeout", "retry", "on_failure", "on_lost")
_ON_THE_STEP = dict.fromkeys(STEP_FIELDS, "the step: write it beside the action, one level up")


class Place(StrEnum):
    """Where a text with templates stands; it decides what the text may refer to."""

    ARGV = "the command"
    SHELL = "a shell command"
    ENV = "env"
    CWD = "cwd"
    STDIN = "stdin"
    MODEL = "model"
    SYSTEM = "system"
    PROMPT = "prompt"
    WHEN = "when"


@dataclass(frozen=True, slots=True)
class Template:
    """A text that is rendered in the worker, and where it stands."""

    place: Place
    text: str
    value: Value


@dataclass(slots=True)
class ActionReading:
    """What came out of an action's document: the action (None after faults), its templates and its content."""

    action: Action | None = None
    templates: list[Template] = field(default_factory=list)
    content: dict[str, bytes] = field(default_factory=dict)

    def template(self, place: Place, value: Value, text: str | None) -> str | None:
        """Note ``text`` as a template if it is one; returns it."""
        if text is not None and has_expressions(text):
            self.templates.append(Template(place, text, value))
        return text

    def take_content(self, place: Place, value: Value, text: str | None) -> ContentRef | None:
        """Take ``text`` out of the plan; returns its reference, or None when there is none."""
        if not self.template(place, value, text):
            return None
        data = (text or "").encode()
        digest = hashlib.sha256(data).hexdigest()
        self.content[digest] = data
        return ContentRef(sha256=digest, bytes=len(data))


_SUBPROCESS = Form(
    known=("command", "env", "cwd", "stdin", "ok_exit_codes", "shell"), required=("command",), elsewhere=_ON_THE_STEP
)
_LLM = Form(
    known=("model", "system", "prompt", "max_tokens", "temperature", "seed", "output_schema", "keep_content"),
    required=("model", "prompt"),
    elsewhere=_ON_THE_STEP,
)
_NOOP = Form(known=(), elsewhere=_ON_THE_STEP)


def read_subprocess(value: Value, reading: ActionReading) -> None:
    """Read ``subprocess: {command: [...], ...}``."""
    fields = value.fields(_SUBPROCESS)
    if fields is None:
        return
    before = len(value.faults)
    shell = fields["shell"].boolean() if "shell" in fields else False
    command = _read_command(fields["command"], shell, reading) if "command" in fields else None
    env = dict(_read_env(fields.get("env"), reading))
    cwd = _read_cwd(fields["cwd"], reading) if "cwd" in fields else "."
    stdin = None
    if "stdin" in fields:
        stdin = reading.take_content(Place.STDIN, fields["stdin"], fields["stdin"].text(is_empty_allowed=True))
    codes = _read_exit_codes(fields["ok_exit_codes"]) if "ok_exit_codes" in fields else (0,)
    if command and cwd and shell is not None and len(value.faults) == before:
        reading.action = SubprocessAction(
            command=command, env=env, cwd=cwd, stdin=stdin, ok_exit_codes=codes, shell=shell
        )


def _read_command(value: Value, shell: bool | None, reading: ActionReading) -> tuple[str, ...] | str | None:
    if isinstance(value.value, str):
        return _read_shell_command(value, shell, reading)
    items = value.items()
    if items is None:
        return None
    if shell:
        value.fault(
            "shell_needs_text",
            "shell: true goes with a command written as one text: remove shell: true, which a list does not need",
        )
    words = [reading.template(Place.ARGV, item, item.argument()) for item in items]
    if not words or words[0] == "":
        value.fault("empty_command", "the command is empty: its first word names the program")
    return tuple(word for word in words if word is not None)


def _read_shell_command(value: Value, shell: bool | None, reading: ActionReading) -> str | None:
    text = value.text(is_empty_allowed=True)
    if text is None:
        return None
    if not text.strip():
        value.fault("empty_command", "the command is empty")
    elif shell is False:
        value.fault("command_needs_shell", f"a command is a list: write {_as_list(text)}, or add shell: true")
    return reading.template(Place.SHELL if shell else Place.ARGV, value, text)


def _as_list(text: str) -> str:
    try:
        words = shlex.split(text)
    except ValueError:
        words = text.split()
    return shorten("[" + ", ".join(_quoted(word) for word in words) + "]", 80)


def _quoted(word: str) -> str:
    is_plain = re.fullmatch(r"[A-Za-z_./-][A-Za-z0-9_./=-]*", word)
    return word if is_plain else '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _read_env(value: Value | None, reading: ActionReading) -> list[tuple[str, str]]:
    entries = value.entries() if value is not None else None
    env = []
    for name, entry in (entries or {}).items():
        if not ENV_NAME.fullmatch(name):
            entry.fault(
                "bad_value", f"{shorten(name)!r} is no name of an environment variable: use letters, digits and _"
            )
        elif name.startswith("AGENTFLOW_"):
            entry.fault("bad_value", f"{name} is set by agentflow: names that start with AGENTFLOW_ are its own")
        text = reading.template(Place.ENV, entry, entry.argument())
        if text is not None:
            env.append((name, text))
    return env


def _read_cwd(value: Value, reading: ActionReading) -> str | None:
    text = reading.template(Place.CWD, value, value.text())
    return relative_path(value, text) if text is not None and not has_expressions(text) else text


def relative_path(value: Value, text: str | None) -> str | None:
    """Return ``text`` as a normal relative path; a fault when it leads out of the folder it is relative to."""
    if text is None:
        return None
    path = PurePosixPath(text)
    if path.is_absolute() or ".." in path.parts:
        value.fault("bad_path", f"{value.name} must stay inside its folder: {shorten(text)!r} leads out of it")
        return None
    return str(path)


def _read_exit_codes(value: Value) -> tuple[int, ...]:
    items = value.items()
    if items == []:
        value.fault("bad_value", "ok_exit_codes is empty: no exit would be a success")
    return tuple(sorted({code for item in items or () if (code := item.integer(0, 255)) is not None}))


def read_noop(value: Value, reading: ActionReading) -> None:
    """Read ``noop: {}``."""
    if value.value is None or value.fields(_NOOP) is not None:
        reading.action = NoopAction()


def read_llm(value: Value, reading: ActionReading) -> None:
    """Read ``llm: {model: "provider:name", prompt: ..., ...}``."""
    fields = value.fields(_LLM)
    if fields is None:
        return
    before = len(value.faults)
    texts: dict[str, ContentRef | None] = {}
    for key, place in (("system", Place.SYSTEM), ("prompt", Place.PROMPT)):
        if key in fields:
            texts[key] = reading.take_content(place, fields[key], fields[key].text(is_empty_allowed=key == "system"))
    read = {key: reader(fields[key]) for key, reader in _LLM_VALUES.items() if key in fields}
    model = _read_model(fields["model"], reading) if "model" in fields else None
    if model and texts.get("prompt") and len(value.faults) == before:
        reading.action = LlmAction.model_validate({"model": model, **texts, **read})


_LLM_VALUES: Mapping[str, Callable[[Value], object]] = {
    "max_tokens": lambda value: value.integer(1),
    "temperature": lambda value: value.number(0, 2),
    "seed": lambda value: value.integer(),
    "output_schema": lambda value: value.json() if value.entries() is not None else None,
    "keep_content": lambda value: value.boolean(),
}


def _read_model(value: Value, reading: ActionReading) -> str | None:
    text = reading.template(Place.MODEL, value, value.text())
    if text is not None and not has_expressions(text) and not all(text.partition(":")):
        value.fault("bad_value", f"model must name its provider, as in openai:gpt-4o-mini, not {shorten(text)!r}")
    return text


READERS: Mapping[str, Callable[[Value, ActionReading], None]] = {
    "subprocess": read_subprocess,
    "noop": read_noop,
    "llm": read_llm,
}
LATER_ACTIONS = ("http", "python", "approval", "wait", "notify", "decision", "run")
"""Actions of the format that this version does not have."""
FIELD_HOMES: Mapping[str, str] = {
    **dict.fromkeys(_LLM.known, "llm"),
    **dict.fromkeys(_SUBPROCESS.known, "subprocess"),
}
"""The fields of actions, for those who write one on the step."""
