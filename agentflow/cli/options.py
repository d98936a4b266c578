"""The options and arguments that several verbs share, written once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

RUNS, PLANS, FILES, STACK = "Runs", "Plans", "Output and audit", "Servers and workers"
"""The panels of the help."""

RunReference = Annotated[
    str, typer.Argument(metavar="RUN", help="A run: its id, a unique prefix of it (4 digits or more), or @last.")
]
PlanPath = Annotated[Path, typer.Argument(metavar="PLAN", help="A plan file (YAML or JSON).")]
PlanOrName = Annotated[
    str,
    typer.Argument(metavar="PLAN|NAME", help="A plan file (YAML or JSON), or a stored plan: its name or NAME@VERSION."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON; an error too.")]
Project = Annotated[str | None, typer.Option("--project", help="Only of this project.")]
RunProject = Annotated[
    str | None, typer.Option("--project", help="The run's project; else the plan's, else AGENTFLOW_PROJECT.")
]
PlanProject = Annotated[
    str | None, typer.Option("--project", help="Where it is stored; else the plan's project, else AGENTFLOW_PROJECT.")
]
Vars = Annotated[list[str] | None, typer.Option("--var", metavar="NAME=VALUE", help="A var of the plan; repeatable.")]
StepOption = Annotated[str | None, typer.Option("--step", metavar="ID", help="One step of the run.")]
Budget = Annotated[
    list[str] | None,
    typer.Option(
        "--budget",
        metavar="KIND=CAP",
        help="Cap steps, tokens, usd or active_time, such as tokens=5000; over the plan's; repeatable.",
    ),
]
Directive = Annotated[
    str | None, typer.Option("--directive", metavar="NAME", help="The run's directive; else the plan's.")
]
Detach = Annotated[bool, typer.Option("--detach", "-d", help="Submit and return at once.")]
Events = Annotated[bool, typer.Option("--events", help="Print the run's events as JSON lines while it goes.")]
Key = Annotated[str | None, typer.Option("--idempotency-key", metavar="KEY", help="One run per key and project.")]
