"""The verbs `flower` and `beat`: Celery's monitor and its clock over agentflow's broker, for users without a checkout.

Both pass every argument on to the program they run. Nothing is decided here.
"""

from __future__ import annotations

from typing import Annotated

import typer

from agentflow.cli.options import STACK

_PASSING_ON = {"allow_extra_args": True, "ignore_unknown_options": True}
Arguments = Annotated[list[str] | None, typer.Argument(metavar="[OPTIONS]", help="Passed on as they are.")]


def register(app: typer.Typer) -> None:
    """Add the verbs to the command line."""
    app.command("flower", rich_help_panel=STACK, context_settings=_PASSING_ON)(flower)
    app.command("beat", rich_help_panel=STACK, context_settings=_PASSING_ON)(beat)


def flower(arguments: Arguments = None) -> None:
    """Run Flower over agentflow's broker, at http://127.0.0.1:5555.

    It takes every option of Flower as --name=value. Its configuration is config/flowerconfig.py below the working
    directory, or the file that AGENTFLOW_FLOWER_CONFIG names. On any other address it needs a password:
    AGENTFLOW_FLOWER_BASIC_AUTH=user:password. While it runs, the workers send events; they cost a worker up to half of
    its throughput, and end with the last Flower. --enable-events=False leaves the workers alone.
    """
    from agentflow.monitor.flower_service import run_flower  # loads Celery: only for this verb
    from agentflow.settings import load_settings

    raise typer.Exit(run_flower(arguments or [], load_settings()))


def beat(arguments: Arguments = None) -> None:
    """Run Celery beat: it keeps the schedules, and hosts a dispatcher for while no worker is there to lead.

    It takes every option of `celery beat`.
    """
    from agentflow.settings import load_settings
    from agentflow.worker.beat_service import run_beat  # loads Celery: only for this verb

    raise typer.Exit(run_beat(arguments or [], load_settings()))
