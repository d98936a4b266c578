"""The verb that tells of a run to those who were not there: ``report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from agentflow.cli import options, printing
from agentflow.cli.opening import opened

Format = Annotated[
    str | None,
    typer.Option("--format", metavar="FORMAT", help="md, json or html; else by the name of --output, else md."),
]
Output = Annotated[Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write it to a file.")]
HasVars = Annotated[bool, typer.Option("--vars", help="With the values of the run's vars, not only their names.")]

_SUFFIXES = {".md": "md", ".markdown": "md", ".json": "json", ".html": "html", ".htm": "html"}


def register(app: typer.Typer) -> None:
    """Add the verb to the command line."""
    app.command(rich_help_panel=options.FILES)(report)


def report(
    run_reference: options.RunReference,
    format_name: Format = None,
    output: Output = None,
    has_vars: HasVars = False,
    as_json: options.AsJson = False,
    project: options.Project = None,
) -> None:
    """Report a run: what happened when and by whom, what it took and cost, who decided; never what was said or made."""
    chosen = _format(format_name, output, as_json=as_json)
    with opened(is_read=True) as flow:
        text = flow.report(run_reference, chosen, project=project, has_vars=has_vars)
    if output is None:
        print(text, end="")
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        from agentflow.domain.error import UsageError

        raise UsageError(f"{output} cannot be written: {error.strerror}") from None
    printing.note(f"{output}: {len(text.encode())} bytes")


def _format(given: str | None, output: Path | None, *, as_json: bool) -> str:
    from agentflow.client.reports import checked_format
    from agentflow.domain.error import UsageError

    if as_json and given not in (None, "json"):
        raise UsageError(f"--json and --format {given} ask for two formats: give one of them.")
    if as_json or given is not None or output is None:
        return "json" if as_json else checked_format(given or "md")
    if output.suffix and output.suffix.lower() not in _SUFFIXES:
        raise UsageError(f"{output.name} names no format that a report can have: add --format md, json or html.")
    return _SUFFIXES.get(output.suffix.lower(), "md")
