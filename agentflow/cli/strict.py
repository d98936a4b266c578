"""A strict run from a terminal: show what it would do, ask, and record the answer as the decision of its gate.

Owns the question. Without a terminal nobody can be asked: the run is refused, or with ``--detach`` left waiting for
somebody else. Nothing here ever approves by itself.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import typer

from agentflow.cli import exit_codes, printing

if TYPE_CHECKING:
    from agentflow.client import AgentFlow, LoadedPlan, Run


def submit_strictly(
    flow: AgentFlow,
    loaded: LoadedPlan,
    given: Mapping[str, str],
    wanted: Mapping[str, Any],
    *,
    detach: bool,
    speaks_json: bool,
) -> Run:
    """Submit a strict run and, unless ``detach``, ask whether it may start. Exits where the answer is not yes."""
    from agentflow.cli.plan_page import print_dry_run

    is_asking = _is_asking(detach=detach, speaks_json=speaks_json)
    if is_asking:
        own = {name: value for name, value in wanted.items() if name != "idempotency_key"}
        print_dry_run(flow.check(loaded, given, mode="strict", **own), as_json=False, is_dry=False)
    submitted = flow.submit(loaded, given, mode="strict", allows_self=is_asking, **wanted)
    if is_asking and (code := _ask(flow, submitted)) is not None:
        raise typer.Exit(code)
    return submitted


def _is_asking(*, detach: bool, speaks_json: bool) -> bool:
    """Whether there is somebody to ask. UsageError where there is not and the run is not to wait for somebody."""
    from agentflow.domain.error import UsageError

    if detach:
        return False
    if sys.stdin.isatty() and sys.stdout.isatty() and not speaks_json:
        return True
    raise UsageError(
        "A strict run asks a person before it starts, and there is nobody to ask here (no terminal, or JSON is "
        "wanted). Add --detach: the run then waits until somebody else says agentflow approve RUN."
    )


def _ask(flow: AgentFlow, run: Run) -> int | None:
    """Ask whether the run may start, and record the answer; None where it goes on, else the exit code.

    A run that was found under its key may have been answered for before.
    """
    from agentflow.domain.mode import APPROVE_EXECUTION

    if not any(view.step == APPROVE_EXECUTION for view in flow.gates(run)):
        return None
    short = run.id[:8]
    try:
        answer = input(f"Start run {short} now? [y/N] ").strip().lower()
    except (EOFError, KeyboardInterrupt):
        printing.note(
            f"\nNobody answered: the run waits.\n  agentflow approve {short}\n  agentflow reject {short} --why ..."
        )
        return exit_codes.INTERRUPTED
    if answer in ("y", "yes"):
        flow.approve(run, APPROVE_EXECUTION, why="yes at the terminal that submitted it")
        return None
    flow.reject(run, APPROVE_EXECUTION, why="no at the terminal that submitted it")
    run.refresh()
    print(f"Run {short} is {run.state}: nothing of it was started.")
    return exit_codes.of_state(run.state)
