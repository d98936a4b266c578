"""The verb that explains: ``why``. The reason is computed by domain/why.py, how it looks is why_page's."""

from __future__ import annotations

from typing import Annotated

import typer

from agentflow.cli import options, printing
from agentflow.cli.opening import opened_run

Step = Annotated[str | None, typer.Argument(metavar="[STEP]", help="One step of the run.")]


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command(rich_help_panel=options.RUNS)(why)


def why(
    run_reference: options.RunReference,
    step: Step = None,
    as_json: options.AsJson = False,
    project: options.Project = None,
) -> None:
    """Say why a run or a step is not running: the one reason that stands in its way first, and what to do about it."""
    with opened_run(run_reference, project) as found:
        explained = found.why(step)
        if as_json:
            printing.print_json(explained.as_json())
            return
        from agentflow.cli.why_page import why_page

        printing.page(why_page(explained))
