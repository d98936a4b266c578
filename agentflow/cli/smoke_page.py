"""What `agentflow doctor --smoke` prints, and its exit code. The test itself is stack/smoke.py's."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from agentflow.cli import doctor_page, printing
from agentflow.stack.findings import Check, Status
from agentflow.stack.smoke import Smoke

SCHEMA = "agentflow.smoke/1"


def show(smoke: Smoke, *, as_json: bool) -> int:
    """Make the test and print its findings as they come; returns 0, 6 for servers that are away, else 1."""
    found: list[Check] = []
    for check in smoke.checks():
        found.append(check)
        if not as_json:
            doctor_page.print_check(check)
    problems = [check for check in found if check.status is Status.PROBLEM]
    if as_json:
        printing.print_json(_as_json(smoke, found, is_ok=not problems))
    else:
        _print_legs(smoke, is_ok=not problems)
    return doctor_page.exit_code(problems)


def _as_json(smoke: Smoke, found: list[Check], *, is_ok: bool) -> dict[str, object]:
    times = smoke.times()
    return {
        "schema": SCHEMA,
        "ok": is_ok,
        "run": smoke.run_id,
        "checks": [check.as_json() for check in found],
        "legs": [leg.as_json() for leg in smoke.legs()],
        "seconds": None if times is None else times.as_json(),
    }


def _print_legs(smoke: Smoke, *, is_ok: bool) -> None:
    console, times, legs = printing.console(), smoke.times(), smoke.legs()
    if legs:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
        for column in ("queue", "worker", "hand-over", "execute"):
            table.add_column(column, no_wrap=True)
        for leg in legs:
            table.add_row(leg.queue, leg.worker, _shown(leg.hand_over_seconds), _shown(leg.execute_seconds))
        console.print(Text())
        console.print(table)
    if times is not None:
        console.print(
            f"\nsubmit {_shown(times.submit_seconds)}, settle {_shown(times.settle_seconds)}, "
            f"in all {_shown(times.total_seconds)}"
        )
    console.print("\nA run goes through." if is_ok else "\nA run does not go through as it should.")


def _shown(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms"
