"""The verbs about what does the work: ``workers`` and ``queues``. How they look is worker_page's."""

from __future__ import annotations

import typer

from agentflow.cli import options, printing
from agentflow.cli.opening import opened


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    for verb in (workers, queues):
        app.command(rich_help_panel=options.STACK)(verb)


def workers(as_json: options.AsJson = False) -> None:
    """List the workers: what they serve, whether they live, when they last took a message, and what they run."""
    with opened() as flow:
        report = flow.workers()
        if as_json:
            printing.print_json(report.as_json())
            return
        from agentflow.cli.worker_page import workers_page

        printing.page(workers_page(report))


def queues(as_json: options.AsJson = False) -> None:
    """List the queues: messages in them, due steps that have none, who takes from them, and since when one waits."""
    with opened() as flow:
        report = flow.queues()
        if as_json:
            printing.print_json(report.as_json())
            return
        from agentflow.cli.worker_page import queues_page

        printing.page(queues_page(report))
