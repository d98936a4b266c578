"""What verbs write to the terminal: JSON or words on stdout, notes and errors on stderr.

Owns the two consoles and the form of errors. What a page looks like is the page's.
"""

from __future__ import annotations

import io
import json
import sys
from typing import TYPE_CHECKING, Any

from agentflow.cli import exit_codes

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

    from agentflow.domain.error import AgentflowError
    from agentflow.domain.fault import Fault

WIDE = 400
"""The width where nobody looks at columns: what is piped must not be wrapped."""


def console(*, is_error: bool = False) -> Console:
    """Return a console on stdout, or on stderr."""
    from rich.console import Console

    stream = sys.stderr if is_error else sys.stdout
    return Console(file=stream, width=None if stream.isatty() else WIDE, highlight=False, soft_wrap=False)


def print_json(value: Any, *, is_line: bool = False) -> None:
    """Write JSON to stdout; as one line, at once, where it is one of many."""
    text = json.dumps(value, ensure_ascii=False, indent=None if is_line else 2)
    print(text, flush=is_line)


def page(renderable: RenderableType) -> None:
    """Write a page to stdout; what is piped gets no spaces at the ends of its lines."""
    target = console()
    if target.is_terminal:
        target.print(renderable)
        return
    with target.capture() as captured:
        target.print(renderable)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def note(text: str) -> None:
    """Write a remark to stderr."""
    print(text, file=sys.stderr)


def make_safe() -> None:
    """Let no character fail that a terminal cannot show; escaped like this, JSON stays JSON."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def print_error(code: str, message: str, details: dict[str, Any], *, as_json: bool) -> None:
    """Tell an error: as JSON on stdout, one line as events are, or in words on stderr."""
    if as_json:
        print_json({"error": {"code": code, "message": message, "details": details}}, is_line=True)
    else:
        note(message)


def report(error: AgentflowError, *, as_json: bool) -> int:
    """Tell an error of agentflow's; returns the exit code."""
    from agentflow.domain.error import PlanRejected

    details, message = dict(error.details), str(error)
    if isinstance(error, PlanRejected):
        details["faults"] = [fault_json(fault) for fault in error.faults]
        message = "\n".join([message.splitlines()[0], *map(fault_line, error.faults)])
    print_error(error.code, message, json.loads(json.dumps(details, default=str)), as_json=as_json)
    return exit_codes.of_error(error.code)


def fault_line(fault: Fault) -> str:
    """Return a fault as a person reads it: where an editor can open it, what is wrong, of which step."""
    return f"{fault.place}: {fault.message}" + (f" (step {fault.step})" if fault.step else "")


def fault_json(fault: Fault) -> dict[str, Any]:
    """Return a fault as ``plan check --json`` prints it."""
    return {name: getattr(fault, name) for name in ("file", "line", "column", "step", "code", "message")}
