"""The written form of the actions: ``subprocess``, ``noop``, and by their own modules ``llm`` and ``http``.

Owns reading commands, and which actions there are. What comes out of a reading is action_reading's; which references
its texts may hold is reference_check's.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import PurePosixPath

from agentflow.domain.action import NoopAction, SubprocessAction
from agentflow.domain.action_reading import ON_THE_STEP, ActionReading, Place
from agentflow.domain.document import Form, Value
from agentflow.domain.gate_document import read_approval
from agentflow.domain.graph_document import SWITCH_FORM, read_switch, read_wait
from agentflow.domain.http_document import HTTP_FORM, read_http
from agentflow.domain.llm_document import LLM_FORM, read_llm
from agentflow.domain.notify_document import NOTIFY_FORM, read_notify
from agentflow.domain.python_document import PYTHON_FORM, read_python
from agentflow.domain.run_document import read_run
from agentflow.domain.template import has_expressions
from agentflow.domain.wording import shorten

ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)

_SUBPROCESS = Form(
    known=("command", "env", "cwd", "stdin", "ok_exit_codes", "shell"), required=("command",), elsewhere=ON_THE_STEP
)
_NOOP = Form(known=(), elsewhere=ON_THE_STEP)


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


READERS: Mapping[str, Callable[[Value, ActionReading], None]] = {
    "subprocess": read_subprocess,
    "noop": read_noop,
    "llm": read_llm,
    "http": read_http,
    "switch": read_switch,
    "decision": read_switch,
    "wait": read_wait,
    "python": read_python,
    "notify": read_notify,
    "approval": read_approval,
    "run": read_run,
}
ACTION_TYPES: Mapping[str, str] = {"switch": "decision"}
"""What an action is called that is written otherwise."""
LATER_ACTIONS: tuple[str, ...] = ()
"""Actions of the format that this version does not have."""
FIELD_HOMES: Mapping[str, str] = {
    **dict.fromkeys(HTTP_FORM.known, "http"),
    **dict.fromkeys(LLM_FORM.known, "llm"),
    **dict.fromkeys(SWITCH_FORM.known, "switch"),
    **dict.fromkeys(PYTHON_FORM.known, "python"),
    **dict.fromkeys(NOTIFY_FORM.known, "notify"),
    **dict.fromkeys(_SUBPROCESS.known, "subprocess"),
}
"""The fields of actions, for those who write one on the step."""
