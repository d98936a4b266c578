"""The verb about limits: ``limits``. How they look is limits_page's."""

from __future__ import annotations

from typing import Annotated

import typer

from agentflow.cli import options, printing
from agentflow.cli.opening import opened

Key = Annotated[str | None, typer.Argument(metavar="[KEY]", help="One key, or the endpoint of a breaker.")]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command(rich_help_panel=options.RUNS)(limits)


def limits(key: Key = None, as_json: options.AsJson = False) -> None:
    """Show rates, concurrencies and circuit breakers: what is free when, who holds a place, and who waits."""
    with opened() as flow:
        report = flow.limits(key)
        if as_json:
            printing.print_json(report.as_json())
            return
        from agentflow.cli.limits_page import limits_page

        printing.page(limits_page(report))
