"""What `agentflow doctor` prints, and its exit code. The examination is stack/doctor.py's."""

from __future__ import annotations

from collections.abc import Iterable

from rich.text import Text

from agentflow.cli import exit_codes, printing
from agentflow.stack.findings import Check, Status

SCHEMA = "agentflow.doctor/1"
_NAME_WIDTH = 14
_SIGNS = {
    Status.OK: ("✓", "green"),
    Status.WARNING: ("!", "yellow"),
    Status.PROBLEM: ("✗", "bold red"),
    Status.SKIPPED: ("·", "dim"),
}


def show(checks: Iterable[Check], *, as_json: bool) -> int:
    """Print the findings as they come; returns 0 when there is no problem, 6 for servers that are away, else 1."""
    found: list[Check] = []
    console = printing.console()
    for check in checks:
        found.append(check)
        if not as_json:
            print_check(check)
    problems = [check for check in found if check.status is Status.PROBLEM]
    warnings = [check for check in found if check.status is Status.WARNING]
    if as_json:
        printing.print_json({"schema": SCHEMA, "ok": not problems, "checks": [check.as_json() for check in found]})
    elif problems:
        console.print(f"\n{len(problems)} of {len(found)} checks found a problem.")
    elif warnings:
        console.print(f"\nNo problem, but {len(warnings)} of {len(found)} checks found something to look at.")
    else:
        console.print("\nEverything is as it should be.")
    return exit_code(problems)


def print_check(check: Check) -> None:
    """Print one finding, with its advice."""
    console = printing.console()
    console.print(_line(check))
    if check.advice:
        console.print(Text(f"{'':{_NAME_WIDTH + 2}}{check.advice}", "yellow"))


def _line(check: Check) -> Text:
    sign, style = _SIGNS[check.status]
    return Text.assemble((f"{sign} {check.name:<{_NAME_WIDTH}}", style), check.detail)


def exit_code(problems: list[Check]) -> int:
    """Return 0 without problems, 6 for servers that are away, else 1."""
    if any(check.is_unreachable for check in problems):
        return exit_codes.UNREACHABLE
    return exit_codes.FAILED if problems else exit_codes.COMPLETED
