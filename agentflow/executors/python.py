"""Performs ``python``: one function of the allow-list, in a process of its own.

Owns the allow-list's meaning and what the process is told; python_child.py is what runs in it. The process is a command
like any other, so supervisor, timeout, cancel, limits, masks, artifacts and result are those of ``subprocess``. In
scratch, beside what that has:

    call.json       what the process reads on stdin (0600)
    raised.json     the class of the exception, if there was one
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Collection
from dataclasses import replace
from functools import cached_property
from pathlib import Path

from agentflow.domain.action import PythonAction, SubprocessAction
from agentflow.executors import python_child
from agentflow.executors.base import Assignment, Lifeline, Performance, executor_for
from agentflow.executors.command import Ended, StartProblem
from agentflow.executors.regular_file import open_regular
from agentflow.executors.subprocess import Layout
from agentflow.settings import load_settings

ARGS_TEXT = "json"
_REPORT_BYTES = 1024
_CLASS_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,99}")
_UNNAMED = "Exception"


class PythonExecutor:
    """Calls functions that the settings of its worker allow; they are read with the first call."""

    action = "python"
    queue = "commands"

    def __init__(self, allowed: Collection[str] | None = None) -> None:
        self._given = allowed

    @cached_property
    def _allowed(self) -> Collection[str]:
        return load_settings().python_calls if self._given is None else self._given

    def perform(self, assignment: Assignment, lifeline: Lifeline) -> Performance:
        """Call the function and hand back what it returned, as JSON.

        Raises TypeError for an action of another type, ConfigurationError for settings that cannot be used.
        """
        action = assignment.action
        if not isinstance(action, PythonAction):
            raise TypeError(f"a python action is performed here, not {action.type!r}")
        if not is_allowed(action.call, self._allowed):
            return Performance(Ended.NOT_STARTED, problem=StartProblem.CALL_NOT_ALLOWED)
        report = assignment.scratch / "raised.json"
        order = _write_order(assignment, action, report, is_own=action.call not in self._allowed)
        command = SubprocessAction(command=(sys.executable, "-P", python_child.__file__))
        performance = executor_for("subprocess").perform(replace(assignment, action=command, stdin=order), lifeline)
        return _with_report(performance, report)

    def close(self) -> None:
        """Nothing is kept: the supervisors are those of the commands."""


def is_allowed(call: str, allowed: Collection[str]) -> bool:
    """Whether an allow-list has a call: by its name, or by ``module:*`` if the name is no private one."""
    module, _, name = call.partition(":")
    return call in allowed or (f"{module}:*" in allowed and not name.startswith("_"))


def _write_order(assignment: Assignment, action: PythonAction, report: Path, *, is_own: bool) -> Path:
    """Write what the process is told; modules are found where this worker finds them, and never in the plan's files."""
    order = {
        "call": action.call,
        "args": json.loads(assignment.texts.get(ARGS_TEXT, "{}")),
        "json_args": action.json_args or (),
        "path": [str(Path(entry).absolute()) for entry in sys.path],
        "is_own": is_own,
        "output": str(Layout.under(assignment.scratch).output),
        "report": str(report),
    }
    path = assignment.scratch / "call.json"
    path.touch(mode=0o600)
    path.write_text(json.dumps(order), encoding="utf-8")
    return path


def _with_report(performance: Performance, report: Path) -> Performance:
    """Add what the process says of an exception. The file is the function's to write too, so it is not trusted."""
    if performance.ended is not Ended.EXITED or performance.exit_code != python_child.RAISED:
        return performance
    try:
        with open_regular(report) as file:
            told = json.loads(file.read(_REPORT_BYTES))
        error, is_found = told["error"], told["is_found"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return performance
    if is_found is False:
        return replace(performance, ended=Ended.NOT_STARTED, problem=StartProblem.CALL_NOT_FOUND, output=None)
    named = error if isinstance(error, str) and _CLASS_NAME.fullmatch(error) else _UNNAMED
    return replace(performance, raised=named, output=None)
