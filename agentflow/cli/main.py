"""The command ``agentflow``: its verbs, and the one place where errors become words and exit codes.

Each module of verbs has ``register(app)`` and imports what is heavy inside its verbs, so that the help answers at once.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated

import typer

from agentflow.cli import exit_codes, printing
from agentflow.cli.overview import Overview

VERBS = (
    "stack_commands",
    "run_commands",
    "fork_commands",
    "act_commands",
    "pause_commands",
    "gate_commands",
    "signal_commands",
    "intervene_commands",
    "budget_commands",
    "limit_commands",
    "why_commands",
    "worker_commands",
    "dead_letter_commands",
    "schedule_commands",
    "plan_commands",
    "log_commands",
    "artifact_commands",
    "report_commands",
    "audit_commands",
    "prune_commands",
    "monitor_commands",
    "key_commands",
    "webhook_commands",
    "api_commands",
)
_SPEAKS_JSON = {"--json", "--events"}


def build() -> typer.Typer:
    """Build the command line from its modules of verbs."""
    app = typer.Typer(
        name="agentflow",
        cls=Overview,
        add_completion=False,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(invoke_without_command=True)(_start)
    for name in VERBS:
        import_module(f"agentflow.cli.{name}").register(app)
    return app


def _start(
    context: typer.Context, *, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    """Run plans of agent work on Celery: claimed, supervised and audited in Postgres."""
    if version:
        from agentflow import __version__

        print(f"agentflow {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    printing.make_safe()
    try:
        code = build()(args=given, prog_name="agentflow", standalone_mode=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read the output has left; what is still buffered must not fail at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return exit_codes.FAILED
    except Exception as error:  # noqa: BLE001 - the last place that can put an error into words
        return _report(error, as_json=speaks_json(given))
    return code if isinstance(code, int) else exit_codes.COMPLETED


def speaks_json(arguments: Sequence[str]) -> bool:
    """Whether a command line asks for JSON, also when it cannot be parsed."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return not _SPEAKS_JSON.isdisjoint(options)


def _report(error: Exception, *, as_json: bool) -> int:
    from agentflow.domain.error import AgentflowError, ServersUnreachable

    if isinstance(error, ServersUnreachable):
        from agentflow.cli.unreachable import with_advice

        error = with_advice(error)
    if not isinstance(error, (AgentflowError, typer.TyperException)):
        from agentflow.client.conflicts import told  # it loads the whole client

        error = told(error)
    if isinstance(error, AgentflowError):
        return printing.report(error, as_json=as_json)
    if isinstance(error, typer.TyperException):
        return _report_usage(error, as_json=as_json)
    traceback.print_exception(error)
    if as_json:
        printing.print_error("internal", f"A bug of agentflow: {type(error).__name__}", {}, as_json=True)
    return exit_codes.FAILED


def _report_usage(error: typer.TyperException, *, as_json: bool) -> int:
    context = getattr(error, "ctx", None)
    command = context.command_path if context else "agentflow"
    message = f"{command}: {error.format_message()}"
    if not as_json:
        message += f"\nTry `{command} --help`."
    printing.print_error("usage", message, {}, as_json=as_json)
    return exit_codes.USAGE
